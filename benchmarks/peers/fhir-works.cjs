// FHIR Works on AWS as its deployment assembles it: Express router, JSON Schema validation, DynamoDB persistence.
//
//     node fhir-works.cjs    with RESOURCE_TABLE and the settings of the AWS SDK in the environment
//
// Left out: search (needs OpenSearch), authorisation (every request is allowed), the stream to the search cluster.

const http = require("node:http");
const { generateServerlessRouter } = require("fhir-works-on-aws-routing");
const { default: JsonSchemaValidator } = require("fhir-works-on-aws-routing/lib/router/validation/jsonSchemaValidator");
const { DynamoDb, DynamoDbBundleService, DynamoDbDataService } = require("fhir-works-on-aws-persistence-ddb");
const { serve } = require("./child.cjs");

DynamoDb.setEndpoint(process.env.AWS_ENDPOINT_URL); // this generation of the SDK does not read it

const unavailable = new Proxy({}, { get: () => () => Promise.reject(new Error("not part of this benchmark")) });

const everythingAllowed = {
  verifyAccessToken: async () => ({}),
  isBundleRequestAuthorized: async () => {},
  isWriteRequestAuthorized: async () => {},
  authorizeAndFilterReadResponse: async ({ readResponse }) => readResponse,
  getAllowedResourceTypesForOperation: async () => [],
  getSearchFilterBasedOnIdentity: async () => [],
};

const router = generateServerlessRouter(
  {
    configVersion: 1,
    productInfo: { orgName: "benchmark" },
    auth: { authorization: everythingAllowed, strategy: { service: "OAuth" } },
    server: { url: "http://127.0.0.1" },
    validators: [new JsonSchemaValidator("4.0.1")],
    profile: {
      fhirVersion: "4.0.1",
      systemOperations: ["transaction"],
      bundle: new DynamoDbBundleService(DynamoDb),
      systemSearch: unavailable,
      systemHistory: unavailable,
      genericResource: {
        operations: ["create", "read", "update", "delete", "vread"],
        fhirVersions: ["4.0.1"],
        persistence: new DynamoDbDataService(DynamoDb),
        typeSearch: unavailable,
        typeHistory: unavailable,
      },
    },
  },
  ["Observation", "Patient"],
);

serve(http.createServer(router));
