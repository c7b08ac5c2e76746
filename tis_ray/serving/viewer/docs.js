// The reference: what openapi.json says, as headings, tables and examples.

function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

/** The type of a schema in words. */
function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const !== undefined) return String(schema.const);
  if (schema.type !== "array") return schema.type || "any";
  return schema.items ? `list of ${kind(schema.items)}` : `list of ${(schema.prefixItems || []).length} numbers`;
}

/** The values that a schema allows, in words. */
function bounds(schema) {
  const words = { minimum: "from", exclusiveMinimum: "above", maximum: "to" };
  const parts = [schema, ...(schema.anyOf || [])];
  return Object.entries(words).flatMap(([key, word]) => parts.filter((part) => key in part).map((part) => `${word} ${part[key]}`)).join(" ");
}

/** A table whose first column is code; a narrow window scrolls it and not the page. */
function rows(head, lines) {
  const table = make("table");
  const first = table.createTHead().insertRow();
  const body = table.createTBody();
  first.append(...head.map((text) => Object.assign(make("th", text), { scope: "col" })));
  for (const line of lines) {
    const row = body.insertRow();
    line.forEach((text, i) => row.insertCell().append(i ? text : make("code", text)));
  }
  return Object.assign(make("div", "", table), { className: "scrolls", tabIndex: 0 });
}

/** Examples of a body, each to be opened. */
function examples(content) {
  return Object.values(content?.examples ?? {}).filter((example) => example.value !== undefined).map((example) =>
    make("details", "", make("summary", example.summary || "Example"), make("pre", written(example.value))));
}

/** JSON with a line for each field and each item of a list, everything deeper on one line. */
function written(value, depth = 0) {
  if (typeof value === "string" && depth === 0) return value;
  if (depth > 1 || value === null || typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const space = "  ".repeat(depth + 1);
  const lines = Object.entries(value).map(([key, item]) => `${space}${isList ? "" : `${JSON.stringify(key)}: `}${written(item, depth + 1)}`);
  const [open, close] = isList ? "[]" : "{}";
  return lines.length ? `${open}\n${lines.join(",\n")}\n${"  ".repeat(depth)}${close}` : open + close;
}

function operation(path, method, spec) {
  const title = make("h2", "", Object.assign(make("span", method), { className: "method" }), make("code", ` ${path}`));
  const parts = [title, make("p", spec.summary || "")];
  if (spec.description) parts.push(make("p", spec.description));
  if (spec.requestBody) parts.push(make("p", `Body: ${Object.keys(spec.requestBody.content).join(", or ")}`));
  const query = (spec.parameters || []).filter((parameter) => parameter.in === "query");
  if (query.length) {
    parts.push(make("h3", "Query"), rows(["name", "type", "default", "meaning"], query.map((parameter) => [
      parameter.name, `${kind(parameter.schema)} ${bounds(parameter.schema)}`, String(parameter.schema.default ?? ""),
      parameter.description || ""])));
  }
  parts.push(make("h3", "Answers"), rows(["status", "type", "meaning"], Object.entries(spec.responses).map(([status, answer]) => {
    const type = Object.keys(answer.content || {})[0] || "";
    const schema = answer.content?.["application/json"]?.schema;
    return [status, type, schema ? `${kind(schema)}: ${answer.description}` : answer.description];
  })));
  for (const answer of Object.values(spec.responses)) for (const content of Object.values(answer.content || {})) parts.push(...examples(content));
  return parts;
}

function show(api) {
  document.getElementById("about").replaceChildren(`${api.info.description} Version ${api.info.version}; machine-readable: `,
    Object.assign(make("a", "openapi.json"), { href: "openapi.json" }), ".");
  document.getElementById("example").textContent =
    `curl --data-binary @image.jpg -H 'Content-Type: image/jpeg' '${location.origin}/v1/segment?score_threshold=0.3'`;
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, spec] of Object.entries(methods)) document.getElementById("paths").append(...operation(path, method, spec));
  }
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    if (!schema.properties || name.includes("ValidationError")) continue;
    document.getElementById("types").append(make("h3", name), make("p", schema.description || ""),
      rows(["field", "type", "meaning"], Object.entries(schema.properties).map(([field, type]) =>
        [field, kind(type), type.description || ""])));
  }
}

try {
  const response = await fetch("openapi.json");
  show(await response.json());
} catch (error) {
  document.getElementById("about").textContent = `openapi.json cannot be read: ${error.message}`;
}
