// Asking the service: one picture, or what it runs. Whatever goes wrong becomes a `Problem` with words for people.

export class Problem extends Error {
  /** `status` 0 means that no answer came; `retryAfter` seconds, where the service says when to come back. */
  constructor(words, { status = 0, retryAfter = null } = {}) {
    super(words);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The answer for an image file. Rejects with a `Problem`, or with an AbortError once `signal` says so. */
export function segment(file, { token, explain, signal }) {
  const type = file.type.startsWith("image/") ? file.type : "image/jpeg"; // the service looks at the bytes themselves
  return ask(`v1/segment?explain=${explain}`, token, { method: "POST", body: file, signal, headers: { "Content-Type": type } });
}

/** What the service runs. Rejects with a `Problem`. */
export function ensemble(token) {
  return ask("v1/ensemble", token, {});
}

async function ask(path, token, { headers = {}, ...options }) {
  const authorisation = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  let body;
  try {
    response = await fetch(path, { ...options, headers: { ...headers, ...authorisation } });
    body = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service cannot be reached. Is it running, and is the network there?");
  }
  const content = parsed(body);
  if (response.ok && content) return content;
  throw new Problem(wordsOf(response, content), { status: response.status, retryAfter: retryAfter(response) });
}

function parsed(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

function wordsOf(response, problem) {
  if (!problem?.detail) return `The service lost this request (status ${response.status}).`;
  const [first, ...rest] = problem.detail;
  const bounds = problem.expected && !problem.detail.includes(problem.expected) ? ` (expected ${problem.expected}; got ${problem.got})` : "";
  return `${first.toUpperCase()}${rest.join("")}${bounds}.`;
}

function retryAfter(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  return response.status === 503 ? Math.max(seconds || 1, 1) : null;
}
