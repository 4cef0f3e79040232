/*
 * The ring of events: order, resuming, dropping, exactly one end, reading byte by byte.
 */
#include <pthread.h>
#include <string.h>

#include "server/jobs/events.h"
#include "unit.h"

/* Reads until there is nothing new, `most` bytes at a time. True at the end of the stream. */
static bool read_all(struct srv_events_reader *reader, char *out, size_t size, size_t most)
{
    size_t used = 0;
    ssize_t n;

    do {
        ck_assert_uint_lt(used + most, size);
        n = srv_events_read(reader, out + used, most, false);
        used += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    out[used] = '\0';
    return n < 0;
}

static struct srv_events *make(void)
{
    struct srv_events *events = NULL;

    ck_assert_int_eq(srv_events_new(&events), 0);
    return events;
}

static struct srv_events_reader *open_at(struct srv_events *events, uint64_t after, const char *snapshot)
{
    struct srv_events_reader *reader = NULL;

    ck_assert_int_eq(srv_events_reader_new(&reader, events, after, snapshot), 0);
    return reader;
}

START_TEST(test_whole_stream)
{
    static const char expected[] = "id: 0\nevent: state\ndata: {}\n\nid: 1\nevent: progress\ndata: 1\n\n"
                                   "id: 2\nevent: succeeded\ndata: {\"a\":1}\n\n";

    for (size_t most = 1; most < 200; most++) {
        struct srv_events *events = make();
        struct srv_events_reader *reader = open_at(events, 0, "{}");
        char text[4096];

        srv_events_publish(events, "progress", "1");
        srv_events_end(events, "succeeded", "{\"a\":1}");
        srv_events_end(events, "failed", "{}");
        srv_events_publish(events, "progress", "2");
        ck_assert(read_all(reader, text, sizeof(text), most));
        ck_assert_str_eq(text, expected);
        srv_events_reader_free(reader);
        srv_events_unref(events);
    }
}
END_TEST

START_TEST(test_resume)
{
    struct srv_events *events = make();
    struct srv_events_reader *reader;
    char text[4096];

    for (int i = 0; i < 5; i++)
        srv_events_publish(events, "progress", "x");
    ck_assert(srv_events_resumable(events, 3));
    ck_assert(srv_events_resumable(events, 5));
    ck_assert(!srv_events_resumable(events, 6));
    reader = open_at(events, 4, NULL);
    ck_assert(!read_all(reader, text, sizeof(text), 100));
    ck_assert_str_eq(text, "id: 5\nevent: progress\ndata: x\n\n");
    srv_events_reader_free(reader);
    srv_events_unref(events);
}
END_TEST

START_TEST(test_slow_reader_misses_the_middle)
{
    struct srv_events *events = make();
    struct srv_events_reader *reader = open_at(events, 0, NULL);
    static char text[1 << 20];
    char first[16];

    srv_events_publish(events, "progress", "first");
    ck_assert_int_eq(srv_events_read(reader, first, 7, false), 7); /* in the middle of event 1 */
    for (int i = 0; i < 3 * SRV_EVENTS_MOST; i++)
        srv_events_publish(events, "progress", "x");
    srv_events_end(events, "succeeded", "{}");
    ck_assert(!srv_events_resumable(events, 1));
    ck_assert(read_all(reader, text, sizeof(text), 512));
    ck_assert_mem_eq(text, "vent: progress\ndata: first\n\n", 28); /* what it had begun is whole */
    ck_assert_ptr_nonnull(strstr(text, "event: succeeded"));
    ck_assert_ptr_null(strstr(text, "id: 2\n"));
    srv_events_reader_free(reader);
    srv_events_unref(events);
}
END_TEST

START_TEST(test_bytes_are_bounded)
{
    struct srv_events *events = make();
    struct srv_events_reader *reader = open_at(events, 0, NULL);
    size_t size = SRV_EVENTS_MOST_BYTES / 3;
    char *large = malloc(size + 1), *text = malloc(8 << 20);

    memset(large, 'x', size);
    large[size] = '\0';
    for (int i = 0; i < 10; i++)
        srv_events_publish(events, "preview", large);
    srv_events_end(events, "failed", "{}");
    ck_assert(read_all(reader, text, 8 << 20, 65536));
    ck_assert_uint_le(strlen(text), SRV_EVENTS_MOST_BYTES);
    ck_assert_ptr_nonnull(strstr(text, "event: failed"));
    free(large);
    free(text);
    srv_events_reader_free(reader);
    srv_events_unref(events);
}
END_TEST

START_TEST(test_fresh_begins_at_the_newest_previews)
{
    struct srv_events *events = make();

    ck_assert_uint_eq(srv_events_fresh(events), 0);
    srv_events_publish(events, "progress", "1");
    ck_assert_uint_eq(srv_events_fresh(events), 1);
    srv_events_publish(events, "preview", "a");
    srv_events_publish(events, "preview", "b");
    srv_events_publish(events, "progress", "2");
    ck_assert_uint_eq(srv_events_fresh(events), 1);
    srv_events_publish(events, "preview", "c");
    ck_assert_uint_eq(srv_events_fresh(events), 4);
    srv_events_unref(events);
}
END_TEST

START_TEST(test_ended_before)
{
    struct srv_events *events = NULL;
    struct srv_events_reader *reader;
    char text[4096];

    ck_assert_int_eq(srv_events_new_ended(&events, 42, "cancelled", "{}"), 0);
    reader = open_at(events, srv_events_fresh(events), "{}");
    ck_assert(read_all(reader, text, sizeof(text), 100));
    ck_assert_str_eq(text, "id: 41\nevent: state\ndata: {}\n\nid: 42\nevent: cancelled\ndata: {}\n\n");
    srv_events_reader_free(reader);
    srv_events_unref(events);
}
END_TEST

START_TEST(test_ping_and_close)
{
    struct srv_events *events = make();
    struct srv_events_reader *reader = open_at(events, 0, NULL);
    char text[64];

    ck_assert_int_eq(srv_events_read(reader, text, sizeof(text), false), 0);
    ck_assert_int_eq(srv_events_read(reader, text, sizeof(text), true), 8);
    ck_assert_mem_eq(text, ": ping\n\n", 8);
    ck_assert_int_eq(srv_events_readers(events), 1);
    srv_events_publish(events, "progress", "1");
    srv_events_close(events);
    ck_assert_int_gt(srv_events_read(reader, text, sizeof(text), false), 0);
    ck_assert_int_eq(srv_events_read(reader, text, sizeof(text), false), -1);
    srv_events_reader_free(reader);
    ck_assert_int_eq(srv_events_readers(events), 0);
    srv_events_unref(events);
}
END_TEST

enum { PUBLISHERS = 4, EACH = 2000 };

static void *publish_many(void *user)
{
    for (int i = 0; i < EACH; i++)
        srv_events_publish(user, "progress", "x");
    return NULL;
}

/* Numbers neither repeat nor go missing when several workers publish. */
START_TEST(test_many_publishers)
{
    struct srv_events *events = make();
    pthread_t threads[PUBLISHERS];

    for (int i = 0; i < PUBLISHERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, publish_many, events), 0);
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(srv_events_last(events), PUBLISHERS * EACH);
    srv_events_unref(events);
}
END_TEST

UNIT_MAIN("events", test_whole_stream, test_resume, test_slow_reader_misses_the_middle, test_bytes_are_bounded,
          test_fresh_begins_at_the_newest_previews, test_ended_before, test_ping_and_close, test_many_publishers)
