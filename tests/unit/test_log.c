/*
 * The log: its two forms, what is escaped, that a client cannot forge anything, and that nobody waits for who reads it.
 */
#include "unit.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/log_ring.h"

static char text[1 << 16];
static int saved, file;

static void catch_stderr(void)
{
    char path[] = "/tmp/test_log.XXXXXX";

    file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    unlink(path);
    saved = dup(STDERR_FILENO);
    ck_assert_int_ge(dup2(file, STDERR_FILENO), 0);
}

/* What was logged since catch_stderr. */
static const char *caught(struct srv_log *log)
{
    ssize_t n;

    ck_assert(srv_log_flush(log, 60000));
    dup2(saved, STDERR_FILENO);
    close(saved);
    n = pread(file, text, sizeof(text) - 1, 0);
    close(file);
    ck_assert_int_ge(n, 0);
    text[n] = '\0';
    return text;
}

static struct srv_log *new_log(const char *level, const char *format)
{
    struct srv_log *log = NULL;

    ck_assert_int_eq(srv_log_new(&log, level, format), 0);
    return log;
}

/* The one line, as a parsed object. */
static json_t *log_json(const char *key, const char *value)
{
    struct srv_log *log = new_log("debug", "json");
    json_t *line;

    catch_stderr();
    srv_log(log, SRV_INFO, "event", key, value, NULL);
    caught(log);
    srv_log_free(log);
    ck_assert_uint_gt(strlen(text), 0);
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(line, "not JSON: %s", text);
    ck_assert_str_eq(json_string_value(json_object_get(line, "level")), "info");
    ck_assert_str_eq(json_string_value(json_object_get(line, "event")), "event");
    return line;
}

START_TEST(test_text)
{
    struct srv_log *log = new_log("info", "text");
    char number[32];
    int year, used = 0;

    catch_stderr();
    srv_log(log, SRV_WARNING, "job_finished", "id", "ab12", "note", "two words", "none", NULL,
            "seconds", srv_log_number(number, 1.25), NULL);
    caught(log);
    ck_assert_int_eq(sscanf(text, "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ %n", &year, &used), 1);
    ck_assert_int_eq(used, 25);
    ck_assert_str_eq(text + used, "warning job_finished id=ab12 note=\"two words\" seconds=1.25\n");
    srv_log_free(log);
}
END_TEST

START_TEST(test_levels)
{
    struct srv_log *log = new_log("warning", "text");

    catch_stderr();
    srv_log(log, SRV_DEBUG, "a", NULL);
    srv_log(log, SRV_INFO, "b", NULL);
    srv_log(log, SRV_WARNING, "c", NULL);
    srv_log(log, SRV_ERROR, "d", NULL);
    srv_log(NULL, SRV_ERROR, "e", NULL);
    caught(log);
    ck_assert_ptr_nonnull(strstr(text, "warning c\n"));
    ck_assert_ptr_nonnull(strstr(text, "error d\n"));
    ck_assert_ptr_null(strstr(text, " a\n"));
    ck_assert_ptr_null(strstr(text, " b\n"));
    srv_log_free(log);
    ck_assert_int_lt(srv_log_new(&log, "loud", "text"), 0);
    ck_assert_int_lt(srv_log_new(&log, "info", "xml"), 0);
}
END_TEST

START_TEST(test_nothing_can_be_forged)
{
    static const char *const hostile[] = {
        "a\n2026-01-01T00:00:00.000Z info forged",
        "\r\nx",
        "\"} {\"event\":\"forged\"",
        "a\" b=\"c",
        "\\\" x",
        "\x1b[2J",
        "\x7f",
        "\xc2\x9b",
        "=",
        "",
    };
    struct srv_log *log = new_log("info", "text");

    for (size_t i = 0; i < sizeof(hostile) / sizeof(*hostile); i++) {
        json_t *line = log_json("value", hostile[i]);

        ck_assert_uint_eq(json_object_size(line), 4);

        ck_assert_str_eq(json_string_value(json_object_get(line, "value")), hostile[i]);
        json_decref(line);
        catch_stderr();
        srv_log(log, SRV_INFO, "event", "value", hostile[i], NULL);
        caught(log);
        ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
        for (const char *c = text; c < text + strlen(text) - 1; c++)
            ck_assert_int_ge((unsigned char)*c, 0x20);
        ck_assert_ptr_nonnull(strstr(text, " event value=\""));
    }
    srv_log_free(log);
}
END_TEST

START_TEST(test_bad_utf8_is_replaced)
{
    static const char *const bad[] = {"\xff",         "a\xc3",        "\xc0\x80",
                                      "\xed\xa0\x80", "\xe2\x82",     "\xf5\x80\x80\x80",
                                      "\x80",         "\xe0\x80\x80", "\xf0\x80\x80\x80"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        json_t *line = log_json("value", bad[i]);

        ck_assert_ptr_nonnull(
            strstr(json_string_value(json_object_get(line, "value")), "\xef\xbf\xbd"));
        json_decref(line);
    }
}
END_TEST

START_TEST(test_good_utf8_stays)
{
    json_t *line = log_json("value", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82");

    ck_assert_str_eq(json_string_value(json_object_get(line, "value")),
                     "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82");
    json_decref(line);
}
END_TEST

START_TEST(test_numbers)
{
    static const struct {
        double value;
        const char *text;
    } numbers[] = {
        {0, "0"},         {8080, "8080"},    {-3, "-3"},
        {0.125, "0.125"}, {1e300, "1e+300"}, {1e14, "100000000000000"},
    };
    static const char *const forged[] = {"\001",   "\001,\"event\":1", "\0011-2", "\00101",
                                         "\001.5", "\0011.",           "\0011e",  "\001+1",
                                         "\001-",  "\001nan"};
    char out[32];
    json_t *line;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        ck_assert_str_eq(srv_log_number(out, numbers[i].value) + 1, numbers[i].text);
        line = log_json("value", out);
        ck_assert(json_is_number(json_object_get(line, "value")));
        ck_assert_double_eq(json_number_value(json_object_get(line, "value")), numbers[i].value);
        json_decref(line);
    }
    line = log_json("value", srv_log_number(out, NAN));
    ck_assert(json_is_null(json_object_get(line, "value")));
    json_decref(line);
    /* A client's digits are text; and its copy of our mark does no harm. */
    line = log_json("value", "17");
    ck_assert(json_is_string(json_object_get(line, "value")));
    json_decref(line);
    for (size_t i = 0; i < sizeof(forged) / sizeof(*forged); i++) {
        line = log_json("value", forged[i]);
        ck_assert(json_is_string(json_object_get(line, "value")));
        json_decref(line);
    }
}
END_TEST

START_TEST(test_long_values_are_cut_not_split)
{
    char value[20000];
    json_t *line;

    for (size_t n = 4000; n < 4200; n++) {
        memset(value, n % 2 ? 'x' : '"', n);
        value[n] = '\0';
        line = log_json("value", value);
        json_decref(line);
    }
    for (size_t n = 3900; n < 4100; n++) {
        struct srv_log *log = new_log("info", "json");
        char number[32];

        memset(value, 'x', n);
        value[n] = '\0';
        catch_stderr();
        srv_log(log, SRV_INFO, "event", "a", value, "b", "text", "c",
                srv_log_number(number, 123456), NULL);
        caught(log);
        line = json_loads(text, 0, NULL);
        ck_assert_ptr_nonnull(line);
        json_decref(line);
        srv_log_free(log);
    }
    memset(value, '\\', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    line = log_json("value", value);
    ck_assert_uint_le(strlen(text), 4096);
    ck_assert_uint_gt(json_string_length(json_object_get(line, "value")), 1500);
    json_decref(line);
}
END_TEST

/* ---- standard error that takes nothing ---- */

/* A pipe that holds one page, so that little fills it. */
static void small_pipe(int fds[2])
{
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_gt(fcntl(fds[1], F_SETPIPE_SZ, 4096), 0);
}

static size_t say_count(void *user, uint64_t count, char line[SRV_LOG_LINE])
{
    (void)user;
    return (size_t)snprintf(line, SRV_LOG_LINE, "dropped %llu\n", (unsigned long long)count);
}

static struct srv_log_ring *new_ring(int fd)
{
    struct srv_log_ring *ring = NULL;

    ck_assert_int_eq(srv_log_ring_new(&ring, fd, say_count, NULL), 0);
    return ring;
}

static void put_number(struct srv_log_ring *ring, unsigned number)
{
    char line[128];
    int n = snprintf(line, sizeof(line), "line %u %0100d\n", number, 0);

    srv_log_ring_put(ring, line, (size_t)n);
}

/* Reads the lines up to the one with number `last`: they must follow each other from `*next`, and where some are
 * missing a line must say how many. Returns the number that are missing. */
static uint64_t read_numbers(FILE *in, unsigned *next, unsigned last)
{
    unsigned long long dropped, missing = 0;
    char line[SRV_LOG_LINE];
    unsigned number;

    while (*next <= last && fgets(line, sizeof(line), in)) {
        if (sscanf(line, "dropped %llu", &dropped) == 1) {
            *next += (unsigned)dropped;
            missing += dropped;
            continue;
        }
        ck_assert_int_eq(sscanf(line, "line %u ", &number), 1);
        ck_assert_uint_eq(number, *next);
        ck_assert_uint_eq(strlen(line), strlen("line  \n") + 100 + (size_t)snprintf(NULL, 0, "%u", number));
        ++*next;
    }
    ck_assert_uint_eq(*next, last + 1);
    return missing;
}

START_TEST(test_nobody_waits_for_a_reader)
{
    enum { MANY = 20000 };
    struct srv_log_ring *ring;
    unsigned next = 0;
    uint64_t missing;
    int fds[2];
    FILE *in;

    small_pipe(fds);
    ring = new_ring(fds[1]);
    for (unsigned i = 0; i < MANY; i++)
        put_number(ring, i);
    ck_assert_uint_gt(srv_log_ring_dropped(ring), 0);
    ck_assert_uint_le((MANY - srv_log_ring_dropped(ring)) * 100, SRV_LOG_RING_BYTES + 2 * 4096);
    ck_assert(!srv_log_ring_flush(ring, 0));

    /* Somebody reads: what waited comes in order, then how many are missing, then what is new. */
    in = fdopen(fds[0], "r");
    next = 0;
    missing = read_numbers(in, &next, MANY - 1);
    ck_assert_uint_eq(missing, srv_log_ring_dropped(ring));
    put_number(ring, MANY);
    ck_assert_uint_eq(read_numbers(in, &next, MANY), 0);
    ck_assert(srv_log_ring_flush(ring, 60000));
    ck_assert_ptr_null(srv_log_ring_free(ring));
    fclose(in);
    close(fds[1]);
}
END_TEST

/* The end does not wait for ever either. */
START_TEST(test_the_end_is_bounded)
{
    struct srv_log_ring *ring;
    int fds[2];

    small_pipe(fds);
    ring = new_ring(fds[1]);
    for (unsigned i = 0; i < 100; i++)
        put_number(ring, i);
    ck_assert_ptr_null(srv_log_ring_free(ring));
    close(fds[0]);
    close(fds[1]);
    ck_assert_ptr_null(srv_log_ring_free(NULL));
}
END_TEST

START_TEST(test_the_end_writes_what_waits)
{
    struct srv_log_ring *ring;
    unsigned next = 0;
    int fds[2];
    FILE *in;

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ring = new_ring(fds[1]);
    for (unsigned i = 0; i < 200; i++)
        put_number(ring, i);
    srv_log_ring_free(ring);
    close(fds[1]);
    in = fdopen(fds[0], "r");
    ck_assert_uint_eq(read_numbers(in, &next, 199), 0);
    ck_assert_int_eq(fgetc(in), EOF);
    fclose(in);
}
END_TEST

/* Nobody can read it any more: that is no reason to keep it, nor to stop. */
START_TEST(test_a_closed_pipe_takes_nothing)
{
    struct srv_log_ring *ring;
    int fds[2];

    signal(SIGPIPE, SIG_IGN);
    small_pipe(fds);
    close(fds[0]);
    ring = new_ring(fds[1]);
    for (unsigned i = 0; i < 10; i++)
        put_number(ring, i);
    ck_assert(srv_log_ring_flush(ring, 60000));
    ck_assert_uint_eq(srv_log_ring_dropped(ring), 10);
    srv_log_ring_free(ring);
    close(fds[1]);
}
END_TEST

struct putting {
    struct srv_log_ring *ring;
    unsigned thread;
};

static void *put_many(void *user)
{
    const struct putting *p = user;

    for (unsigned i = 0; i < 200; i++)
        put_number(p->ring, 1000 * p->thread + i);
    return NULL;
}

START_TEST(test_lines_of_threads_do_not_mix)
{
    enum { THREADS = 4 };
    struct putting putting[THREADS];
    pthread_t threads[THREADS];
    unsigned next[THREADS] = {0}, number;
    struct srv_log_ring *ring;
    char line[SRV_LOG_LINE];
    int fds[2];
    FILE *in;

    small_pipe(fds);
    ring = new_ring(fds[1]);
    for (unsigned i = 0; i < THREADS; i++) {
        putting[i] = (struct putting){ring, i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, put_many, &putting[i]), 0);
    }
    in = fdopen(fds[0], "r");
    for (int i = 0; i < THREADS * 200; i++) {
        ck_assert_ptr_nonnull(fgets(line, sizeof(line), in));
        ck_assert_int_eq(sscanf(line, "line %u ", &number), 1);
        ck_assert_uint_eq(number % 1000, next[number / 1000]++);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    srv_log_ring_free(ring);
    fclose(in);
    close(fds[1]);
}
END_TEST

/* A process that dies with lines on their way: `die` ends it. */
static void check_crash(void (*die)(void), int number)
{
    enum { LINES = 300 };
    bool seen[LINES] = {false};
    int fds[2], status, got = 0, i;
    char line[SRV_LOG_LINE];
    pid_t pid;
    FILE *in;

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct srv_log *log;
        char value[32];

        dup2(fds[1], STDERR_FILENO);
        log = new_log("info", "text");
        srv_log_rescue_on_crash(log);
        for (i = 0; i < LINES; i++) {
            snprintf(value, sizeof(value), "%d", i);
            srv_log(log, SRV_INFO, "event", "number", value, NULL);
        }
        die();
        _exit(0);
    }
    close(fds[1]);
    in = fdopen(fds[0], "r");
    while (fgets(line, sizeof(line), in))
        if (sscanf(line, "%*s info event number=%d", &i) == 1 && i >= 0 && i < LINES && !seen[i]) {
            seen[i] = true;
            got++;
        }
    fclose(in);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(number == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == number));
    ck_assert(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
    ck_assert_int_eq(got, LINES);
}

static void die_of_abort(void)
{
    abort();
}

static void die_of_access(void)
{
    volatile uintptr_t nowhere = 64;

    *(volatile int *)nowhere = 1;
}

START_TEST(test_a_crash_keeps_the_last_lines)
{
    check_crash(die_of_abort, SIGABRT);
    check_crash(die_of_access, 0); /* a sanitizer exits in its own way */
}
END_TEST

UNIT_MAIN("log", test_text, test_levels, test_nothing_can_be_forged, test_bad_utf8_is_replaced,
          test_good_utf8_stays, test_numbers, test_long_values_are_cut_not_split,
          test_nobody_waits_for_a_reader, test_the_end_is_bounded, test_the_end_writes_what_waits,
          test_a_closed_pipe_takes_nothing, test_lines_of_threads_do_not_mix, test_a_crash_keeps_the_last_lines)
