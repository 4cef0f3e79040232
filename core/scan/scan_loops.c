/*
 * A scan's inner loops for any CPU, and the choice. The loops are in scan_loops.h; vectors of two
 * float64 values are what every x86-64 has, and NEON.
 */
#define WIDTH 2
#define TARGET
#define LOOPS els_scan_loops_c

#include "core/scan/scan_loops.h"

const struct els_scan_loops *els_scan_loops_at(int i)
{
    const struct els_scan_loops *usable[] = {&els_scan_loops_c, NULL, NULL, NULL};
    int n = 1;

#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2"))
        usable[n++] = &els_scan_loops_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        usable[n++] = &els_scan_loops_avx512;
#endif
    return i < n ? usable[i] : NULL;
}

const struct els_scan_loops *els_scan_loops_chosen(void)
{
    int i = 0;

    while (els_scan_loops_at(i + 1))
        i++;
    return els_scan_loops_at(i);
}
