/**
 * Loaded into a sidecar of the demo before anything else: the sidecar ends when the demo does, however that ends.
 *
 * @module
 */
process.on("disconnect", () => process.kill(process.pid, "SIGTERM"));
