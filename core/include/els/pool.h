/*
 * pool: a fixed set of threads that share one loop.
 *
 *     struct els_pool *pool = NULL;
 *     els_pool_new(&pool, 0);                       // 0: one thread per core
 *     els_pool_run(pool, n, item, arg);             // item(arg, i, worker) for every i < n
 *     pool = els_pool_free(pool);
 *
 * The calling thread works too, as worker 0, so a pool of one starts no thread. Which worker gets which
 * item is left open: results must not depend on it. One els_pool_run at a time per pool.
 */
#ifndef ELS_POOL_H
#define ELS_POOL_H

#include <stddef.h>

#include "els/api.h"

ELS_BEGIN_DECLS

enum { ELS_MAX_THREADS = 1024 };

struct els_pool;

/* threads 0: the cores this process may use. ELS_EINVAL outside 0…ELS_MAX_THREADS; ELS_ENOMEM. */
ELS_API int els_pool_new(struct els_pool **out, int threads);
/* Joins the threads; NULL is fine. Returns NULL. */
ELS_API struct els_pool *els_pool_free(struct els_pool *pool);
/* Workers, the caller included; 1 for NULL. */
ELS_API int els_pool_threads(const struct els_pool *pool);
/* Workers that are in a loop now. Any thread. */
ELS_API int els_pool_busy(const struct els_pool *pool);
/* Runs item(arg, i, worker) for i in [0,n), and returns when all are done. A NULL pool runs them here. */
ELS_API void els_pool_run(struct els_pool *pool, size_t n, void (*item)(void *arg, size_t i, int worker),
                          void *arg);

ELS_END_DECLS

#endif
