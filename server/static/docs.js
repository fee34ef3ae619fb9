"use strict";
// Shows openapi.json. Everything that comes from it enters the page as text, never as markup.

const METHODS = ["get", "post", "put", "patch", "delete"];

function make(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === true) node.setAttribute(key, "");
    else if (value) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter(Boolean));
  return node;
}

// A text in which `this` is code.
function prose(text) {
  return String(text || "").split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part));
}

function paragraphs(text) {
  return String(text || "").split(/\n\s*\n/).filter(Boolean).map((part) => make("p", {}, prose(part)));
}

function last(reference) {
  return reference.slice(reference.lastIndexOf("/") + 1);
}

// The object that a reference of ours names, or what is no reference itself.
function resolve(spec, value) {
  if (!value || !value.$ref) return value || {};
  return value.$ref.slice(2).split("/").reduce((found, step) => (found || {})[step], spec) || {};
}

function joined(nodes, word) {
  return nodes.flatMap((node, place) => (place ? [` ${word} `, node] : [node]));
}

function typeOf(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["any JSON"];
  if (schema.$ref) {
    const name = last(schema.$ref);
    return [make("a", { href: `#schema-${name}` }, name)];
  }
  const several = schema.anyOf || schema.oneOf;
  if (several) return joined(several.map(typeOf), "or");
  if (schema.allOf) return typeOf(schema.allOf[0]);
  if (schema.type === "array") return ["array of ", ...typeOf(schema.items)];
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return ["object of ", ...typeOf(schema.additionalProperties)];
  }
  if (schema.format) return [`${schema.format}`];
  return [String(schema.type || typeof (schema.enum || [schema.const])[0])];
}

// The schema that limits are told of: the one beside null, the items of an array.
function core(schema) {
  const several = (schema.anyOf || schema.oneOf || []).filter((each) => each.type !== "null");
  if (several.length === 1) return core(several[0]);
  return schema.type === "array" && schema.items ? core(schema.items) : schema;
}

function limitsOf(schema) {
  const inner = core(schema || {});
  const said = [];
  const low = inner.minimum ?? inner.exclusiveMinimum;
  if (low !== undefined && inner.maximum <= Number.MAX_SAFE_INTEGER) {
    said.push(`${inner.exclusiveMinimum === undefined ? "" : "above "}${low} to ${inner.maximum}`);
  } else if (low !== undefined) said.push(`from ${low}`);
  if (inner.maxLength !== undefined) said.push(`${inner.minLength || 0} to ${inner.maxLength} characters`);
  if (inner.const !== undefined) said.push(`always ${JSON.stringify(inner.const)}`);
  if (schema && schema.minItems) said.push(`at least ${schema.minItems}`);
  if (schema && schema.default !== undefined && schema.default !== null) {
    said.push(`default ${JSON.stringify(schema.default)}`);
  }
  return said.join("; ");
}

function valuesOf(schema) {
  const values = core(schema || {}).enum;
  return values && make("span", { class: "values" }, values.map((value) => make("code", {}, String(value))));
}

function idForm(schema) {
  const found = /^\^(\w+|\([\w|]+\))-\[0-9a-f\]/.exec(core(schema || {}).pattern || "");
  return found && found[1].replace(/[()]/g, "").split("|").map((kind) => `${kind}-<uuid>`).join(" or ");
}

function typeCell(schema) {
  const limits = limitsOf(schema);
  const form = idForm(schema);
  return make("td", {}, typeOf(schema), form && make("span", { class: "limits" }, form),
    limits && make("span", { class: "limits" }, limits), valuesOf(schema));
}

function parameterRow(spec, given) {
  const parameter = resolve(spec, given);
  return make("tr", {},
    make("td", {}, make("span", { class: "name" }, parameter.name), " ",
      parameter.required && make("span", { class: "required" }, "required"),
      make("span", { class: "where" }, parameter.in)),
    typeCell(parameter.schema),
    make("td", {}, prose(parameter.description)));
}

function propertyTable(schema) {
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([name, property]) => make("tr", {},
    make("td", {}, make("span", { class: "name" }, name), " ",
      !required.has(name) && make("span", { class: "where" }, "optional")),
    typeCell(property)));
  return make("table", { class: "properties" }, make("tbody", {}, rows));
}

function answerRow(status, answer) {
  const shapes = Object.entries(answer.content || {}).map(([media, { schema, ...more }]) => [
    make("span", {}, typeOf(more["x-event-data"] || schema)),
    make("span", { class: "where" }, media)]);
  const headers = Object.keys(answer.headers || {}).filter((name) => name !== "X-Request-Id").join(", ");
  return make("tr", {}, make("td", {}, status), make("td", {}, shapes),
    make("td", {}, prose(answer.description), headers && make("span", { class: "limits" }, `Headers: ${headers}`)));
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// The smallest value that fits a schema, for the example.
function sample(spec, schema) {
  const known = resolve(spec, schema);
  const inner = core(known);
  if (inner !== known) return sample(spec, inner);
  if (known.examples) return known.examples[0];
  if (known.anyOf) return sample(spec, known.anyOf[0]);
  if (known.enum) return known.enum[0];
  if (known.const !== undefined) return known.const;
  if (known.properties) {
    return Object.fromEntries((known.required || []).map((name) => [name, sample(spec, known.properties[name])]));
  }
  if (known.type === "string") return (idForm(known) || "…").split(" or ")[0];
  return { integer: known.minimum || 0, number: 1, boolean: true, object: {}, array: [] }[known.type] ?? null;
}

function curl(spec, path, method, operation) {
  const name = method === "get" ? "" : ` -X ${method.toUpperCase()}`;
  const lines = [`curl${name} ${quoted(location.origin + path)}`];
  if ((operation.security || []).length) lines.push("-H \"Authorization: Bearer $TOKEN\"");
  const [media, content] = Object.entries((operation.requestBody || {}).content || {})[0] || [];
  if (media) {
    const isLines = media === "application/x-ndjson";
    const value = sample(spec, isLines ? content.schema.items : content.schema);
    lines.push(`-H 'Content-Type: ${media}'`, `-d ${quoted(JSON.stringify(value))}`);
  }
  return make("pre", {}, lines.join(" \\\n  "));
}

function bodyPart(spec, operation) {
  const content = Object.entries((operation.requestBody || {}).content || {});
  if (!content.length) return null;
  const { schema } = content[0][1];
  const known = resolve(spec, schema);
  return [make("h3", {}, operation.requestBody.required ? "Body" : "Body (optional)"),
    make("p", {}, typeOf(schema), make("span", { class: "where" }, content.map(([media]) => media).join(" or "))),
    paragraphs(known.description),
    known.properties && propertyTable(known)];
}

function isError(answer) {
  return Boolean(answer.$ref);
}

function answersPart(spec, operation) {
  const answers = Object.entries(operation.responses || {});
  const errors = answers.filter(([, answer]) => isError(answer)).map(([status, given]) => {
    const answer = resolve(spec, given);
    return make("tr", {}, make("td", {}, status), make("td", {}, prose(answer.description)));
  });
  const others = answers.filter(([, answer]) => !isError(answer)).map(([status, answer]) => answerRow(status, answer));
  return [make("h3", {}, "Answers"), make("table", { class: "answers" }, make("tbody", {}, others)),
    make("h3", {}, "Errors, each an ", make("a", { href: "#schema-Error" }, "Error")),
    make("table", { class: "errors" }, make("tbody", {}, errors))];
}

function pathNodes(path) {
  return path.split(/(\{[^}]*\})/).map((part) => (part.startsWith("{") ? make("i", {}, part) : part));
}

function operationCard(spec, path, method, operation) {
  const given = operation.parameters || [];
  const scope = ((operation.security || [])[0] || {}).token;
  const body = make("div", { class: "body" },
    operation.description === `${operation.summary}.` ? null : paragraphs(operation.description),
    make("p", { class: "soft" }, scope ? ["Needs a token with the scope ", make("code", {}, scope.join(", ")), "."]
      : "Open to all."),
    given.length ? [make("h3", {}, "Parameters"),
      make("table", {}, make("tbody", {}, given.map((each) => parameterRow(spec, each))))] : null,
    bodyPart(spec, operation),
    answersPart(spec, operation),
    make("h3", {}, "Example"),
    curl(spec, path, method, operation));
  const card = make("details", { class: operation.deprecated ? "card deprecated" : "card", id: operation.operationId },
    make("summary", {},
      make("span", { class: `method ${method.toUpperCase()}` }, method.toUpperCase()),
      make("span", { class: "path" }, pathNodes(path)),
      make("span", { class: "summary" }, operation.summary || "", " ",
        operation.deprecated && make("span", { class: "note" }, "deprecated"))),
    body);
  const names = given.map((each) => resolve(spec, each).name);
  card.dataset.words = [method, path, operation.summary, operation.operationId, ...names].join(" ").toLowerCase();
  return card;
}

function schemaCard(name, schema) {
  const several = schema.anyOf || schema.oneOf;
  const card = make("details", { class: "card schema", id: `schema-${name}` },
    make("summary", {}, make("span", { class: "path" }, name),
      make("span", { class: "summary" }, prose((schema.description || "").split(/[.:;](?:\s|$)/)[0]))),
    make("div", { class: "body" }, paragraphs(schema.description),
      several ? make("p", {}, joined(several.map(typeOf), "or")) : propertyTable(schema)));
  card.dataset.words = [name, ...Object.keys(schema.properties || {})].join(" ").toLowerCase();
  return card;
}

function operationsOf(spec) {
  return Object.entries(spec.paths || {}).flatMap(([path, methods]) => METHODS
    .filter((method) => methods[method])
    .map((method) => ({ path, method, operation: methods[method] })));
}

function tagSection(title, text, cards) {
  return make("section", { class: "tag", id: `tag-${title}` }, make("h2", {}, title), make("p", {}, prose(text)), cards);
}

function contentsOf(title, operations) {
  const items = operations.map(({ path, method, operation }) => make("li", {},
    make("a", { href: `#${operation.operationId}`, title: `${method.toUpperCase()} ${path}` },
      make("span", { class: `method ${method.toUpperCase()}` }, method.toUpperCase()),
      make("span", {}, operation.summary || path))));
  return [make("h2", {}, title), make("ul", {}, items)];
}

function show(spec) {
  const info = spec.info || {};
  document.getElementById("version").textContent = info.version ? `HTTP API ${info.version}` : "";
  document.getElementById("intro").append(...paragraphs(info.description));
  const operations = operationsOf(spec);
  const routes = document.getElementById("routes");
  const contents = document.getElementById("contents");
  for (const tag of spec.tags || []) {
    const own = operations.filter(({ operation }) => (operation.tags || [])[0] === tag.name);
    const cards = own.map(({ path, method, operation }) => operationCard(spec, path, method, operation));
    routes.append(tagSection(tag.name, tag.description, cards));
    contents.append(...contentsOf(tag.name, own));
  }
  const schemas = Object.entries((spec.components || {}).schemas || {});
  routes.append(tagSection("schemas", "The shapes of bodies and answers.",
    schemas.map(([name, schema]) => schemaCard(name, schema))));
  contents.append(make("h2", {}, make("a", { href: "#tag-schemas" }, "schemas")));
}

function search() {
  const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const section of document.querySelectorAll("section.tag")) {
    let shown = 0;
    for (const card of section.querySelectorAll("details.card")) {
      card.hidden = !words.every((word) => card.dataset.words.includes(word));
      shown += card.hidden ? 0 : 1;
    }
    section.hidden = shown === 0;
    count += shown;
  }
  const found = document.getElementById("found");
  found.hidden = words.length === 0;
  found.textContent = count ? `${count} found` : "Nothing found; try fewer or shorter words.";
  document.getElementById("intro").hidden = words.length > 0;
}

// Opens what the address names, and brings it into view.
function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target || !target.matches("details.card")) return;
  if (target.hidden) {
    document.getElementById("search").value = "";
    search();
  }
  target.open = true;
  target.scrollIntoView();
}

fetch("/openapi.json")
  .then((answer) => {
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.json();
  })
  .then((spec) => {
    show(spec);
    document.getElementById("search").addEventListener("input", search);
    addEventListener("hashchange", follow);
    follow();
  })
  .catch((error) => {
    document.getElementById("intro").append(make("p", { role: "alert" }, `openapi.json cannot be shown: ${error.message}.`));
  });
