/**
 * Presets of load balancers, content delivery networks and what follows TCP connections.
 *
 * @module
 */
import type { Preset } from "./preset.ts";

/** Both sides of an ALB have one idle limit, which ends exchanges too. */
const ALB_IDLE =
  "aws elbv2 modify-load-balancer-attributes --load-balancer-arn ARN --attributes Key=idle_timeout.timeout_seconds,Value={s}";
const DIGITALOCEAN_IDLE = "doctl compute load-balancer update ID --http-idle-timeout-seconds {s}";
const ENDS_EXCHANGES = "(which also ends exchanges in which nothing is sent for so long)";

/** The presets. */
export const BALANCERS: readonly Preset[] = [
  {
    name: "aws-alb",
    title: "AWS Application Load Balancer",
    sources: [
      "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html",
      "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html",
    ],
    downstream: { idleMs: 60_000, maxAgeMs: 3_600_000 },
    upstream: { idleMs: 60_000 },
    deregistrationMs: 300_000,
    settings: {
      downstreamIdle: { text: ALB_IDLE, leastMs: 1000, mostMs: 4_000_000 },
      upstreamIdle: { text: `${ALB_IDLE} ${ENDS_EXCHANGES}`, leastMs: 1000, mostMs: 4_000_000 },
      deregistration: {
        text: "aws elbv2 modify-target-group-attributes --target-group-arn ARN --attributes Key=deregistration_delay.timeout_seconds,Value={s}",
        leastMs: 0,
        mostMs: 3_600_000,
      },
    },
    symptom: "502 from the load balancer; in its access log elb_status_code is 502 and target_status_code is `-`",
  },
  {
    name: "aws-nlb",
    title: "AWS Network Load Balancer, TCP listener",
    sources: ["https://docs.aws.amazon.com/elasticloadbalancing/latest/network/update-idle-timeout.html"],
    note: "With a TLS listener it is 350 s too, and cannot be changed.",
    device: { forgetsMs: 350_000, resets: true },
    settings: {
      forgets: {
        text: "aws elbv2 modify-listener-attributes --listener-arn ARN --attributes Key=tcp.idle_timeout.seconds,Value={s}",
        leastMs: 60_000,
        mostMs: 6_000_000,
      },
    },
  },
  {
    name: "aws-nat",
    title: "AWS NAT gateway",
    sources: ["https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html"],
    device: { forgetsMs: 350_000, resets: true },
    settings: {},
  },
  {
    name: "gcp-lb",
    title: "Google Cloud Application Load Balancer",
    sources: ["https://cloud.google.com/load-balancing/docs/https#timeouts_and_retries"],
    note: "The limit towards backends is fixed.",
    downstream: { idleMs: 610_000 },
    upstream: { idleMs: 600_000 },
    settings: {
      downstreamIdle: {
        text: "gcloud compute target-http-proxies update NAME --http-keep-alive-timeout-sec={s}",
        leastMs: 5000,
        mostMs: 1_200_000,
      },
    },
    symptom: "502 with statusDetails backend_connection_closed_before_data_sent_to_client",
  },
  {
    name: "gcp-vpc",
    title: "Google Cloud VPC connection tracking",
    sources: ["https://cloud.google.com/compute/docs/troubleshooting/general-tips#communicatewithinternet"],
    device: { forgetsMs: 600_000, resets: false },
    settings: {},
  },
  {
    name: "azure-lb",
    title: "Azure Load Balancer",
    sources: ["https://learn.microsoft.com/en-us/azure/load-balancer/load-balancer-tcp-reset"],
    note: "With TCP reset on, give `reset=yes`.",
    device: { forgetsMs: 240_000, resets: false },
    settings: {
      forgets: {
        text: "az network lb rule update --resource-group GROUP --lb-name LB --name RULE --idle-timeout {m} --enable-tcp-reset true",
        leastMs: 240_000,
        mostMs: 6_000_000,
      },
    },
  },
  {
    name: "nat",
    title: "any NAT or firewall",
    sources: ["https://www.rfc-editor.org/rfc/rfc5382#section-5"],
    note: "RFC 5382 asks for 2 h 4 min; give what yours does: `nat:forgets=5m`.",
    device: { forgetsMs: 7_440_000, resets: false },
    settings: {},
  },
  {
    name: "cloudfront",
    title: "Amazon CloudFront, custom origin",
    sources: [
      "https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/DownloadDistValuesOrigin.html#DownloadDistValuesOriginKeepaliveTimeout",
      "https://repost.aws/knowledge-center/cloudfront-custom-origin-response",
    ],
    downstream: {},
    upstream: { idleMs: 5000 },
    settings: {
      upstreamIdle: {
        text: "CustomOriginConfig.OriginKeepaliveTimeout: {s}",
        leastMs: 1000,
        mostMs: 180_000,
      },
    },
    symptom: "502 from CloudFront (x-cache: Error from cloudfront)",
  },
  {
    name: "fastly",
    title: "Fastly, towards the origin",
    sources: ["https://www.fastly.com/documentation/guides/getting-started/hosts/keep-alive-settings"],
    note: "Keeps connections as long as possible unless keepalive_time is set; TCP keepalive is on, its time not published.",
    downstream: {},
    upstream: { idleMs: Number.POSITIVE_INFINITY },
    settings: { upstreamIdle: "backend keepalive_time: {s}", upstreamTcpKeepAlive: "backend tcp_keepalive_time: {s}" },
    symptom: "503 from Fastly",
  },
  {
    name: "digitalocean-lb",
    title: "DigitalOcean Load Balancer, backend keepalive off (the default)",
    sources: [
      "https://docs.digitalocean.com/glossary/keep-alive/",
      "https://docs.digitalocean.com/products/networking/load-balancers/support/",
    ],
    downstream: { idleMs: 60_000 },
    upstream: { keepAlive: false, idleMs: 60_000 },
    settings: {
      downstreamIdle: { text: DIGITALOCEAN_IDLE, leastMs: 30_000, mostMs: 600_000 },
      upstreamKeepAlive: "doctl compute load-balancer update ID --enable-backend-keepalive",
    },
    symptom: "502 from the load balancer",
  },
  {
    name: "digitalocean-lb-keepalive",
    title: "DigitalOcean Load Balancer, backend keepalive on",
    sources: [
      "https://docs.digitalocean.com/glossary/keep-alive/",
      "https://docs.digitalocean.com/products/networking/load-balancers/support/",
    ],
    downstream: { idleMs: 60_000 },
    upstream: { idleMs: 60_000 },
    settings: {
      downstreamIdle: { text: DIGITALOCEAN_IDLE, leastMs: 30_000, mostMs: 600_000 },
      upstreamIdle: { text: `${DIGITALOCEAN_IDLE} ${ENDS_EXCHANGES}`, leastMs: 30_000, mostMs: 600_000 },
    },
    symptom: "502 from the load balancer",
  },
];
