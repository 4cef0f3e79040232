/*
 * A scan's inner loops for CPUs with AVX-512 (F and DQ): see scan_loops.h.
 */
#ifdef __x86_64__
#define WIDTH 8
#define TARGET __attribute__((target("avx512f,avx512dq")))
#define LOOPS els_scan_loops_avx512

#include "core/scan/scan_loops.h"
#endif
