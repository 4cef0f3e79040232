/*
 * A scan's inner loops for CPUs with AVX2: see scan_loops.h.
 */
#ifdef __x86_64__
#define WIDTH 4
#define TARGET __attribute__((target("avx2")))
#define LOOPS els_scan_loops_avx2

#include "core/scan/scan_loops.h"
#endif
