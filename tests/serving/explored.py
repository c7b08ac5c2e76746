"""What schemathesis finds wrong with a service, asked in many ways by its own description."""

from collections import Counter
from dataclasses import dataclass, field

from schemathesis import Config
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.schemas import BaseSchema


@dataclass
class Explored:
    """The statuses of all answers, by operation, and what no answer may be like."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def configured(*, token: str | None, max_examples: int, late: tuple[str, ...] = ("504",)) -> SchemathesisConfig:
    """Every check, always the same requests. `late` are the statuses of a deadline too short for any answer."""
    return Config.from_dict(
        {
            "seed": 20_181_120,
            "cache": {"enabled": False},
            "generation": {"max-examples": max_examples, "deterministic": True},
            "auth": {"openapi": {"bearer": {"bearer": token}}} if token else {},
            "checks": {
                "not_a_server_error": {"expected-statuses": ["2xx", "4xx", *late]},
                # Bytes may be of the right type and no image: 400. A wrong refusal of a parameter would be 422.
                "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "408", *late]},
            },
        }
    )


def explore(schema: BaseSchema) -> Explored:
    """Ask the service that `schema` describes and was loaded from."""
    explored = Explored()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(event, explored)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            explored.wrong.append(f"{event}")
    return explored


def _note(event: events.ScenarioFinished, explored: Explored) -> None:
    record = event.recorder
    for interaction in record.interactions.values():
        if interaction.response is not None:
            explored.statuses[record.label, interaction.response.status_code] += 1
    for number, checks in record.checks.items():
        answer = record.interactions[number].response
        for check in checks:
            if check.failure_info is not None:
                found = check.failure_info
                said = f"{answer.status_code} {answer.content[:300]!r}" if answer else "nothing"
                what = f"{record.label}: {found.failure.title}: {found.failure.message}"
                explored.wrong.append(f"{what}\n{found.code_sample[:500]}\nanswered {said}")
