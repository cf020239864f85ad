import assert from "node:assert/strict";
import { test } from "node:test";
import { authenticatesConnection, challengesConnection } from "../../src/proxy/connection-authentication.ts";
import { FieldList } from "../../src/proxy/headers.ts";

test("which requests authenticate their connection", () => {
  const fields = (...values: string[]) => new FieldList(values.flatMap((value) => ["Authorization", value]));
  for (const value of ["NTLM TlRMTVNTUAABAAAA", "ntlm x", "Negotiate YII=", "NEGOTIATE\tx", "Nego2 x", "Negotiate"]) {
    assert.ok(authenticatesConnection(fields(value)), value);
  }
  for (const value of ["Bearer NTLM", "Basic TlRMTQ==", "NTLMv2 x", "negotiated x", "n", "", "Digest realm=ntlm"]) {
    assert.ok(!authenticatesConnection(fields(value)), value);
  }
  assert.ok(!authenticatesConnection(new FieldList(["X-Authorization", "NTLM x", "Proxy-Authorization", "NTLM x"])));
  // A sender may not repeat the field; which of the lines a server takes is its own affair.
  assert.ok(authenticatesConnection(fields("Basic YTpi", "NTLM x")));
  assert.ok(authenticatesConnection(fields("NTLM x", "Basic YTpi")));
});

test("which responses offer to", () => {
  const offers = (status: number, name: string, ...values: string[]) =>
    challengesConnection(status, new FieldList(values.flatMap((value) => [name, value])));
  for (const value of ["NTLM", "ntlm TlRM", "Negotiate", 'Basic realm="a", NTLM', "Digest a=b,Negotiate oRs="]) {
    assert.ok(offers(401, "WWW-Authenticate", value), value);
    assert.ok(offers(407, "proxy-authenticate", value), value);
    assert.ok(!offers(200, "WWW-Authenticate", value), value);
  }
  assert.ok(offers(401, "www-authenticate", "Basic", "NTLM"));
  for (const value of ['Basic realm="NTLM"', "Bearer", "", "NTLM2", 'Digest qop="auth"']) {
    assert.ok(!offers(401, "WWW-Authenticate", value), value);
  }
});
