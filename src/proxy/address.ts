/**
 * Addresses of sockets.
 *
 * @module
 */

/** IPv4 addresses without the `::ffff:` that a dual-stack socket puts before them. */
export function plainAddress(address: string | undefined): string {
  if (address === undefined) return "";
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}
