/*
 * random: SplitMix64, for whatever needs the same numbers everywhere and no more: built-in banks, resampling. The noise
 * of samples is theory/noise.c.
 *
 *     uint64_t state = 1;
 *     uint64_t word = els_random_next(&state);
 */
#ifndef ELS_RANDOM_H
#define ELS_RANDOM_H

#include <stdint.h>

/* One word of state, and good from any seed. */
static inline uint64_t els_random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

#endif
