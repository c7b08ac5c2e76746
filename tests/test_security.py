"""What `SECURITY.md` says holds: its tests exist, and no module runs what a file says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text()
MODULES = sorted((ROOT / "tis_ray").rglob("*.py"))

# Calls that run, or may run, what they are given. PyTorch's own loader is let through where it takes weights alone.
FORBIDDEN = {
    *("eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput"),
    *(
        "pickle.load",
        "pickle.loads",
        "cloudpickle.load",
        "cloudpickle.loads",
        "marshal.load",
        "marshal.loads",
        "shelve.open",
    ),
    *(
        "yaml.load",
        "yaml.load_all",
        "yaml.unsafe_load",
        "yaml.full_load",
        "joblib.load",
        "torch.jit.load",
        "torch.hub.load",
    ),
}


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    written = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 15
    assert named <= written


def test_every_page_that_is_linked_exists():
    assert all((ROOT / link).exists() for link in re.findall(r"\]\(([^)#]+)", PAGE))


def risky(call: ast.Call) -> str | None:
    """What a call does that no module may, if anything."""
    name = ast.unparse(call.func)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in FORBIDDEN:
        return name
    if name == "torch.load" and options.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False":
        return "np.load with pickles"
    return "shell=True" if options.get("shell", "False") != "False" else None


def test_nothing_runs_what_a_file_says():
    assert len(MODULES) > 200
    found = []
    for path in MODULES:
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        found += [f"{path.relative_to(ROOT)}:{call.lineno}: {risky(call)}" for call in calls if risky(call)]
    assert not found


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("pickle.loads(data)", "pickle.loads"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=True)", None),
        ("np.load(path, allow_pickle=True)", "np.load with pickles"),
        ("subprocess.run(line, shell=True)", "shell=True"),
        ("yaml.safe_load(text)", None),
        ("model.eval()", None),
        ("re.compile(text)", None),
    ],
)
def test_what_counts_as_running_it(code, said):
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert risky(call) == said
