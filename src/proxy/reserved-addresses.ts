/**
 * Addresses that only a route of the configuration leads to: of this link alone, where clouds hand credentials to
 * whoever asks. A service that fetches what its callers name must not become their way there.
 *
 * @module
 */
import { BlockList } from "node:net";

/** What `net.connect` refuses to connect to. */
export const RESERVED_ADDRESSES: BlockList = new BlockList();

// RFC 3927: metadata of AWS, Azure, Google Cloud, Oracle, DigitalOcean and OpenStack, credentials of ECS and EKS.
RESERVED_ADDRESSES.addSubnet("169.254.0.0", 16, "ipv4");
// RFC 4291 §2.5.6; OpenStack's metadata.
RESERVED_ADDRESSES.addSubnet("fe80::", 10, "ipv6");
// AWS: metadata, EKS Pod Identity.
RESERVED_ADDRESSES.addSubnet("fd00:ec2::", 32, "ipv6");
// Google Cloud.
RESERVED_ADDRESSES.addAddress("fd20:ce::254", "ipv6");
// Azure's WireServer.
RESERVED_ADDRESSES.addAddress("168.63.129.16", "ipv4");
// Alibaba Cloud.
RESERVED_ADDRESSES.addAddress("100.100.100.200", "ipv4");
