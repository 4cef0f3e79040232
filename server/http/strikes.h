/*
 * strikes: wrong API keys by the address that they come from. After a burst of them an address has to
 * wait. Right keys are not asked about here, so they pass from every address at all times.
 *
 *     struct srv_strikes *strikes = NULL;
 *     srv_strikes_new(&strikes, seed);
 *     int seconds = srv_strikes_count(strikes, "192.0.2.7", srv_monotonic_ms());
 *     if (seconds > 0)
 *         …                                  // 429, Retry-After: seconds
 *     strikes = srv_strikes_free(strikes);
 *
 * Any thread; a lock of its own, the innermost.
 */
#ifndef SRV_STRIKES_H
#define SRV_STRIKES_H

#include <stdint.h>

enum {
    SRV_STRIKES_BURST = 20,     /* at once, and then … */
    SRV_STRIKES_EACH_MS = 15000, /* … one in such a time */
    SRV_STRIKES_ADDRESSES = 4096, /* that are kept in mind */
};

struct srv_strikes;

/* `seed` is a random number: it decides which addresses share a place in the table. */
int srv_strikes_new(struct srv_strikes **out, uint64_t seed);
/* NULL is fine. Returns NULL. */
struct srv_strikes *srv_strikes_free(struct srv_strikes *strikes);
/* A wrong key has come from the address. 0, or the seconds until it may send one again (then this one is
 * not counted). */
int srv_strikes_count(struct srv_strikes *strikes, const char *address, int64_t now_ms);

#endif
