/**
 * What counts as one caller's address.
 *
 * @module
 */

/**
 * The key under which connections of an address are counted: an IPv4 address itself, an IPv6 address cut to its
 * network prefix, since one caller is usually given a whole network.
 *
 * @param address - as `Connection.remoteAddress` has it
 * @param ipv6Prefix - bits of an IPv6 address that count, 1 to 128
 */
export function addressKey(address: string, ipv6Prefix: number): string {
  if (!address.includes(":")) return address;
  const groups = ipv6Groups(address);
  const kept = groups.map((group, at) => {
    const bits = Math.min(16, Math.max(0, ipv6Prefix - at * 16));
    return group & (0xffff << (16 - bits)) & 0xffff;
  });
  return `${kept.map((group) => group.toString(16)).join(":")}/${ipv6Prefix}`;
}

/** The eight groups of an IPv6 address as the kernel writes it: `::` once at most, perhaps a dotted tail or a zone. */
function ipv6Groups(address: string): number[] {
  const [text = ""] = address.split("%");
  const [head = [], tail] = text.split("::").map(parseGroups);
  if (tail === undefined) return head;
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail];
}

function parseGroups(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (!group.includes(".")) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split(".").map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}
