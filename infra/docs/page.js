// Shows openapi.json of the service that this page came from, and sends requests to it. Loads nothing else.
"use strict";

const element = (name, text, children = []) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
};

const resolve = (api, schema) => {
  if (!schema || !schema.$ref) return schema || {};
  return schema.$ref.split("/").slice(1).reduce((place, part) => place[part], api);
};

const typeName = (api, schema) => {
  schema = resolve(api, schema);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const options = schema.anyOf || schema.oneOf;
  if (options) return options.map((option) => typeName(api, option)).join(" | ");
  if (schema.type === "array") return `list of ${typeName(api, schema.items)}`;
  return schema.format || schema.title || schema.type || "any";
};

const fields = (api, schema) => {
  schema = resolve(api, schema);
  const rows = Object.entries(schema.properties || {}).map(([name, inner]) =>
    element("tr", "", [
      element("td", "", [element("code", name)]),
      element("td", typeName(api, inner)),
      element("td", (schema.required || []).includes(name) ? "required" : ""),
      element("td", resolve(api, inner).description || ""),
    ]));
  return rows.length ? element("table", "", rows) : element("p", "No fields.");
};

const tryOut = (api, method, path, operation) => {
  const body = operation.requestBody?.content["application/json"];
  const inputs = (operation.parameters || []).filter((one) => one.in === "path" || one.in === "query").map((one) => {
    const input = element("input");
    input.placeholder = one.name;
    input.value = one.example ?? "";
    return { ...one, input };
  });
  const text = element("textarea");
  text.rows = 8;
  text.value = body ? JSON.stringify(body.example ?? {}, null, 2) : "";
  const answer = element("pre");
  const button = element("button", "Send");
  button.type = "button";
  button.addEventListener("click", async () => {
    let address = path;
    const query = new URLSearchParams();
    for (const { name, input, in: place } of inputs) {
      if (place === "path") address = address.replace(`{${name}}`, encodeURIComponent(input.value));
      else if (input.value) query.append(name, input.value);
    }
    const headers = { Authorization: `Bearer ${document.getElementById("token").value}` };
    if (body) headers["Content-Type"] = "application/json";
    try {
      const response = await fetch(address + (query.size ? `?${query}` : ""), {
        method, headers, body: body ? text.value : undefined,
      });
      const shown = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      answer.textContent = `${response.status}\n${shown}\n\n${await response.text()}`;
    } catch (error) {
      answer.textContent = String(error);
    }
  });
  const labels = inputs.map(({ name, input }) => element("label", `${name} `, [input]));
  return element("div", "", [...labels, ...(body ? [text] : []), button, answer]);
};

const operationOf = (api, method, path, operation) => {
  const summary = element("summary", "", [
    element("span", method.toUpperCase(), []),
    document.createTextNode(" "),
    element("code", path),
    element("span", operation.summary ? ` — ${operation.summary}` : ""),
  ]);
  summary.firstChild.className = "method";
  const body = operation.requestBody?.content["application/json"];
  const answers = Object.entries(operation.responses || {}).map(([status, response]) =>
    element("tr", "", [element("td", status), element("td", resolve(api, response).description || "")]));
  const details = element("details", "", [summary]);
  details.dataset.name = `${path} ${operation.operationId || ""}`;
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    details.append(element("div", "", [
      element("p", operation.description || ""),
      ...(body ? [element("h4", "Body"), fields(api, body.schema)] : []),
      element("h4", "Answers"),
      element("table", "", answers),
      element("h4", "Try it"),
      tryOut(api, method.toUpperCase(), path, operation),
    ]));
  });
  return details;
};

const show = (api) => {
  document.title = api.info.title;
  document.getElementById("title").textContent = api.info.title;
  document.getElementById("description").textContent = api.info.description || "";
  const sections = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = (operation.tags || ["other"])[0];
      if (!sections.has(tag)) sections.set(tag, element("section", "", [element("h2", tag)]));
      sections.get(tag).append(operationOf(api, method, path, operation));
    }
  }
  document.getElementById("operations").replaceChildren(...sections.values());
};

document.getElementById("filter").addEventListener("input", ({ target }) => {
  for (const details of document.querySelectorAll("details")) {
    details.hidden = !details.dataset.name.includes(target.value.trim());
  }
});

fetch("openapi.json")
  .then((response) => response.json())
  .then(show)
  .catch((error) => { document.getElementById("operations").textContent = `The document cannot be read: ${error}`; });
