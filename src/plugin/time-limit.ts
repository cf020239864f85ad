/**
 * Waiting for a plugin, but not for ever.
 *
 * @module
 */

/** The longest time that `setTimeout` can count, in milliseconds. */
const LONGEST_MS = 2 ** 31 - 1;

/**
 * Resolves or rejects as `work` does, or rejects once the time is over. What `work` does after that is ignored.
 *
 * @param limitMs - in milliseconds; `Infinity`: no limit
 * @param tooLate - makes the error to reject with
 */
export async function withTimeLimit<T>(work: PromiseLike<T>, limitMs: number, tooLate: () => Error): Promise<T> {
  if (limitMs === Number.POSITIVE_INFINITY) return await work;
  const limit = Promise.withResolvers<never>();
  const timer = setTimeout(() => limit.reject(tooLate()), Math.min(limitMs, LONGEST_MS));
  try {
    return await Promise.race([work, limit.promise]);
  } finally {
    clearTimeout(timer);
  }
}
