function make(tag, text, ...children) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const !== undefined) return String(schema.const);
  if (schema.type === "array") return schema.items ? `list of ${kind(schema.items)}` : `list of ${(schema.prefixItems || []).length} numbers`;
  return schema.type || "any";
}

function bounds(schema) {
  const words = { minimum: "from", maximum: "to", exclusiveMinimum: "above" };
  const parts = [schema, ...(schema.anyOf || [])];
  return parts.flatMap((part) => Object.keys(words).filter((key) => key in part).map((key) => `${words[key]} ${part[key]}`)).join(" ");
}

function rows(head, lines) {
  const table = make("table"), first = table.insertRow();
  head.forEach((text) => first.append(make("th", text)));
  for (const line of lines) {
    const row = table.insertRow();
    line.forEach((text, i) => row.insertCell().append(i ? text : make("code", text)));
  }
  return table;
}

function operation(path, method, spec) {
  const title = make("h2", "", make("span", method), make("code", " " + path));
  title.firstChild.className = "method";
  const parts = [title, make("p", spec.summary || "")];
  const query = (spec.parameters || []).filter((parameter) => parameter.in === "query");
  if (spec.requestBody) parts.push(make("p", "Body: " + Object.keys(spec.requestBody.content).join(", or ")));
  if (query.length) {
    parts.push(make("h3", "Query"), rows(["name", "type", "default", "meaning"], query.map((parameter) => [
      parameter.name, `${kind(parameter.schema)} ${bounds(parameter.schema)}`, String(parameter.schema.default ?? ""),
      parameter.description || ""])));
  }
  parts.push(make("h3", "Answers"), rows(["status", "type", "meaning"], Object.entries(spec.responses).map(([status, answer]) => [
    status, Object.keys(answer.content || {})[0] || "", answer.content?.["application/json"]?.schema
      ? kind(answer.content["application/json"].schema) : answer.description])));
  return parts;
}

fetch("openapi.json").then((response) => response.json()).then((api) => {
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
      rows(["field", "type"], Object.entries(schema.properties).map(([field, type]) => [field, kind(type)])));
  }
}).catch((error) => { document.getElementById("about").textContent = `openapi.json cannot be read: ${error.message}`; });
