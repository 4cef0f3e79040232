/*
 * A fixed set of threads around one loop. els_pool_run is called by one thread at a time (the owner); the
 * workers sleep on a condition between loops.
 *
 * Lock order: `lock` is the only one, and is never held while an item runs.
 * Always holds: a worker touches `item`, `arg`, `n` only between a generation's start and its own report of being done.
 */
#include "els/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "els/error.h"
#include "els/mem.h"

struct els_pool {
    int threads;       /* workers, the caller included */
    int started;       /* pthreads that run */
    pthread_t *thread; /* [threads - 1] */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a new generation, or the end */
    pthread_cond_t done; /* busy fell to 0 */
    unsigned generation; /* counts loops; guarded by lock */
    int busy;            /* threads still in the loop; guarded by lock */
    int ending;          /* guarded by lock */
    int next_worker;     /* hands out worker numbers at start; guarded by lock */
    void (*item)(void *arg, size_t i, int worker);
    void *arg;
    size_t n;
    atomic_size_t next; /* relaxed: only hands out numbers; the lock orders the data */
    atomic_int working; /* relaxed: for onlookers */
};

static int cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    return 1;
}

static void loop(struct els_pool *pool, int worker)
{
    size_t i;

    atomic_fetch_add_explicit(&pool->working, 1, memory_order_relaxed);
    while ((i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < pool->n)
        pool->item(pool->arg, i, worker);
    atomic_fetch_sub_explicit(&pool->working, 1, memory_order_relaxed);
}

static void *work(void *user)
{
    struct els_pool *pool = user;
    unsigned seen = 0;
    int worker;

    pthread_mutex_lock(&pool->lock);
    worker = pool->next_worker++;
    for (;;) {
        while (!pool->ending && pool->generation == seen)
            pthread_cond_wait(&pool->wake, &pool->lock);
        if (pool->ending)
            break;
        seen = pool->generation;
        pthread_mutex_unlock(&pool->lock);
        loop(pool, worker);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int els_pool_new(struct els_pool **out, int threads)
{
    struct els_pool *pool;

    if (threads < 0 || threads > ELS_MAX_THREADS)
        return ELS_EINVAL;
    if (threads == 0)
        threads = cores();
    pool = els_alloc_array(1, sizeof(*pool));
    if (!pool)
        return ELS_ENOMEM;
    pool->threads = threads;
    pool->next_worker = 1;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->thread = els_alloc_array((size_t)threads, sizeof(*pool->thread));
    if (!pool->thread)
        goto fail;
    for (; pool->started < threads - 1; pool->started++)
        if (pthread_create(&pool->thread[pool->started], NULL, work, pool) != 0)
            goto fail;
    *out = pool;
    return 0;

fail:
    els_pool_free(pool);
    return ELS_ENOMEM;
}

struct els_pool *els_pool_free(struct els_pool *pool)
{
    if (!pool)
        return NULL;
    pthread_mutex_lock(&pool->lock);
    pool->ending = 1;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->started; i++)
        pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->thread);
    free(pool);
    return NULL;
}

int els_pool_threads(const struct els_pool *pool)
{
    return pool ? pool->threads : 1;
}

int els_pool_busy(const struct els_pool *pool)
{
    return atomic_load_explicit(&pool->working, memory_order_relaxed);
}

void els_pool_run(struct els_pool *pool, size_t n, void (*item)(void *arg, size_t i, int worker),
                  void *arg)
{
    if (!pool) {
        for (size_t i = 0; i < n; i++)
            item(arg, i, 0);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->item = item;
    pool->arg = arg;
    pool->n = n;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    pool->busy = pool->started;
    pool->generation++;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);

    loop(pool, 0);

    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}
