import assert from "node:assert/strict";
import { SocketAddress } from "node:net";
import { describe, it } from "node:test";
import fc from "fast-check";
import { addressKey } from "../../../plugins/connection-limits/address.ts";

const groups = fc.array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 });

/** The address as the kernel writes it: shortened, in lower case. */
function written(eight: readonly number[]): string {
  return new SocketAddress({ address: eight.map((group) => group.toString(16)).join(":"), family: "ipv6" }).address;
}

function bits(eight: readonly number[]): string {
  return eight.map((group) => group.toString(2).padStart(16, "0")).join("");
}

describe("addressKey", () => {
  it("is the address itself for IPv4", () => assert.equal(addressKey("198.51.100.7", 64), "198.51.100.7"));

  it("is the network for IPv6, however the address is written", () => {
    const key = addressKey("2001:db8:1:2::", 64);
    for (const address of [
      "2001:db8:1:2::1",
      "2001:db8:1:2:ffff:ffff:ffff:ffff",
      "2001:db8:1:2::192.0.2.1",
      "2001:db8:1:2::1%eth0",
    ]) {
      assert.equal(addressKey(address, 64), key, address);
    }
    for (const address of ["2001:db8:1:3::1", "2001:db8::", "::", "::1", "fe80::2%lo"]) {
      assert.notEqual(addressKey(address, 64), key, address);
    }
    assert.notEqual(addressKey("::1", 128), addressKey("::", 128));
    assert.equal(addressKey("64:ff9b::192.0.2.1", 128), addressKey("64:ff9b::c000:201", 128));
  });

  it("is the same for two IPv6 addresses if and only if they share the prefix", () => {
    fc.assert(
      fc.property(groups, groups, fc.nat(128), fc.integer({ min: 1, max: 128 }), (one, other, shared, prefix) => {
        // `other` takes over the first `shared` bits of `one`, so that prefixes are really shared now and then.
        const joined = bits(one).slice(0, shared) + bits(other).slice(shared);
        const mixed = Array.from({ length: 8 }, (_, at) => Number.parseInt(joined.slice(at * 16, at * 16 + 16), 2));
        const same = bits(one).slice(0, prefix) === joined.slice(0, prefix);
        assert.equal(addressKey(written(one), prefix) === addressKey(written(mixed), prefix), same);
      }),
      { numRuns: 1000 },
    );
  });
});
