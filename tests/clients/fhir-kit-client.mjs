// The calls that fhir-kit-client is used for, made in order on a running exchange; prints how each went.
//
//     node fhir-kit-client.mjs BASE_URL TOKEN PATIENT

import assert from "node:assert/strict";
import { Client } from "fhir-kit-client";

const [baseUrl, bearerToken, patient] = process.argv.slice(2);
const client = new Client({ baseUrl, bearerToken });
const resourceType = "Observation";
const outcomes = {};

async function call(name, act) {
  try {
    const result = await act();
    outcomes[name] = "ok";
    return result;
  } catch (error) {
    const issue = error.response?.data?.issue?.[0];
    outcomes[name] = [error.response?.status, issue?.code, issue?.diagnostics, error.message].filter(Boolean).join(" ");
    return undefined;
  }
}

const observation = (changed) => ({
  resourceType,
  status: "final",
  code: { coding: [{ system: "http://loinc.org", code: "8867-4" }], text: "fhir-kit-client" },
  subject: { reference: `Patient/${patient}` },
  effectiveDateTime: "2026-03-14T08:30:00+01:00",
  valueQuantity: { value: 72, unit: "/min" },
  ...changed,
});
const posted = (resource) => ({ resource, request: { method: "POST", url: resource.resourceType } });
const mine = { patient, code: "http://loinc.org|8867-4" };

await call("capabilityStatement", async () => {
  const statement = await client.capabilityStatement();
  assert.equal(statement.fhirVersion, "4.0.1");
});

// It takes whichever comes first: the SMART configuration, or /metadata, whose text is fixed when the stack is deployed
// and names no address (`oauth-uris`, which SMART 2 dropped). So it is asked until the former was first.
await call("smartAuthMetadata", async () => {
  let tokenUrl;
  for (let tries = 0; tokenUrl === undefined && tries < 50; tries++) ({ tokenUrl } = await client.smartAuthMetadata());
  assert.match(String(tokenUrl), /\/oauth2\/token$/);
});

const created = await call("create", async () => {
  const made = await client.create({ resourceType, body: observation() });
  assert.equal(made.meta.versionId, "1");
  assert.equal(Client.httpFor(made).response.status, 201);
  return made;
});
const id = created?.id;

await call("create unless it exists", async () => {
  const condition = `patient=${patient}&identifier=urn:oid:2.999.1|fhir-kit-client`;
  const options = { headers: { "If-None-Exist": condition } };
  const body = observation({ identifier: [{ system: "urn:oid:2.999.1", value: "fhir-kit-client" }] });
  const first = await client.create({ resourceType, body, options });
  const again = await client.create({ resourceType, body, options });
  assert.equal(again.id, first.id);
});

await call("read", async () => assert.equal((await client.read({ resourceType, id })).valueQuantity.value, 72));

await call("vread", async () => {
  assert.equal((await client.vread({ resourceType, id, version: "1" })).meta.versionId, "1");
});

await call("resolve", async () => {
  const found = await client.resolve({ reference: "subject" in (created ?? {}) ? created.subject.reference : "" });
  assert.equal(found.resourceType, "Patient");
});

await call("update", async () => {
  const body = { ...created, status: "amended" };
  const updated = await client.update({ resourceType, id, body, options: { headers: { "If-Match": 'W/"1"' } } });
  assert.deepEqual([updated.status, updated.meta.versionId], ["amended", "2"]);
});

await call("update with an id of the client", async () => {
  const chosen = "fhir-kit-client-1";
  const made = await client.update({ resourceType, id: chosen, body: observation({ id: chosen }) });
  assert.deepEqual([made.id, made.meta.versionId, Client.httpFor(made).response.status], [chosen, "1", 201]);
  assert.equal((await client.read({ resourceType, id: chosen })).id, chosen);
});

await call("conditional update", async () => {
  const identifier = [{ system: "urn:oid:2.999.1", value: "fhir-kit-client-conditional" }];
  const searchParams = { patient, identifier: "urn:oid:2.999.1|fhir-kit-client-conditional" };
  const first = await client.update({ resourceType, searchParams, body: observation({ identifier }) });
  const second = await client.update({ resourceType, searchParams, body: observation({ identifier, status: "amended" }) });
  assert.deepEqual([second.id, second.meta.versionId], [first.id, "2"]);
});

await call("patch", async () => {
  const jsonPatch = [{ op: "replace", path: "/status", value: "corrected" }];
  assert.equal((await client.patch({ resourceType, id, jsonPatch })).status, "corrected");
});

await call("transaction", async () => {
  const entry = [1, 2, 3, 4].map((value) => posted(observation({ valueQuantity: { value, unit: "/min" } })));
  const done = await client.transaction({ body: { resourceType: "Bundle", type: "transaction", entry } });
  assert.equal(done.type, "transaction-response");
  assert.deepEqual([...new Set(done.entry.map(({ response }) => response.status.slice(0, 3)))], ["201"]);
});

await call("batch", async () => {
  const entry = [
    { request: { method: "GET", url: `Observation/${id}` } },
    { request: { method: "GET", url: "Observation/nobody-knows" } },
  ];
  const done = await client.batch({ body: { resourceType: "Bundle", type: "batch", entry } });
  assert.equal(done.type, "batch-response");
  assert.deepEqual(done.entry.map(({ response }) => response.status.slice(0, 3)), ["200", "404"]);
});

await call("search and next pages", async () => {
  const seen = [];
  let bundle = await client.search({ resourceType, searchParams: { ...mine, _count: 2 } });
  while (bundle) {
    seen.push(...bundle.entry.map(({ resource }) => resource.id));
    bundle = await client.nextPage({ bundle });
  }
  assert.ok(seen.includes(id) && seen.length >= 5);
  assert.equal(new Set(seen).size, seen.length);
});

await call("search by POST", async () => {
  const found = await client.search({ resourceType, searchParams: mine, options: { postSearch: true } });
  assert.ok(found.entry.some(({ resource }) => resource.id === id));
});

await call("search with _include", async () => {
  const searchParams = { ...mine, _count: 1, _include: "Observation:subject" };
  const found = await client.search({ resourceType, searchParams });
  assert.deepEqual(found.entry.map(({ search }) => search.mode).sort(), ["include", "match"]);
});

await call("history of a resource", async () => {
  const versions = (await client.resourceHistory({ resourceType, id })).entry;
  assert.deepEqual(versions.map(({ resource }) => resource.meta.versionId), ["3", "2", "1"]);
});

await call("history of a type", async () => {
  const bundle = await client.request(`Observation/_history?patient=${patient}&_count=3`);
  assert.deepEqual([bundle.type, bundle.entry.length], ["history", 3]);
});

await call("operation $validate", async () => {
  const input = { resourceType: "Parameters", parameter: [{ name: "resource", resource: observation() }] };
  const outcome = await client.operation({ name: "validate", resourceType, input });
  assert.ok(!outcome.issue.some(({ severity }) => severity === "error"));
});

await call("operation $everything", async () => {
  const bundle = await client.operation({ name: "everything", resourceType: "Patient", id: patient, method: "GET" });
  assert.ok(bundle.entry.some((each) => each.resource.resourceType === "Patient" && each.resource.id === patient));
});

await call("operation $summary", async () => {
  const bundle = await client.operation({ name: "summary", resourceType: "Patient", id: patient, method: "GET" });
  assert.deepEqual([bundle.type, bundle.entry[0].resource.resourceType], ["document", "Composition"]);
});

await call("delete", async () => {
  await client.delete({ resourceType, id });
  await assert.rejects(client.read({ resourceType, id }), ({ response }) => response.status === 410);
});

process.stdout.write(JSON.stringify(outcomes));
