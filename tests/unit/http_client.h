/*
 * http_client: what the programs that run the HTTP server inside themselves have in common: the server, a client that
 * speaks over a plain socket, and waiting for counters.
 *
 *     int fd = ask("/path");                      // GET, Connection: close
 *     assert_answer(fd, "words of the body");     // 200; closes
 *
 *     fd = dial();
 *     say(fd, "GET / HTTP/1.1\r\n...");
 *     text = hear(fd, "needle");                  // static memory; NULL: to the end
 *     close(fd);
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/http/http.h"

/* Only a test that fails waits so long. */
enum { PATIENCE_MS = 1200000 };

static struct srv_http *http;

static inline void pause_ms(int ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&ts, NULL);
}

/* Waits until the counter has the value. */
static inline void await(atomic_int *counter, int value)
{
    for (int ms = 0; atomic_load(counter) < value; ms += 5) {
        ck_assert_msg(ms < PATIENCE_MS, "a counter stays at %d, not %d", atomic_load(counter),
                      value);
        pause_ms(5);
    }
}

static inline int dial(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)srv_http_port(http)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static inline void say(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static inline int ask(const char *path)
{
    char text[256];
    int fd = dial();

    snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             path);
    say(fd, text);
    return fd;
}

/* Reads until `needle` has come, or (NULL) to the end. */
static inline const char *hear(int fd, const char *needle)
{
    static char text[1 << 16];
    size_t n = 0;

    text[0] = '\0';
    while (!needle || !strstr(text, needle)) {
        struct pollfd p = {fd, POLLIN, 0};
        ssize_t got;

        ck_assert_msg(poll(&p, 1, PATIENCE_MS) == 1, "nothing more comes after: %s", text);
        got = recv(fd, text + n, sizeof(text) - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        text[n] = '\0';
    }
    if (needle)
        ck_assert_msg(strstr(text, needle), "\"%s\" is not in: %s", needle, text);
    return text;
}

static inline void assert_answer(int fd, const char *needle)
{
    const char *text = hear(fd, NULL);

    ck_assert_msg(strncmp(text, "HTTP/1.1 200 ", 13) == 0 && strstr(text, needle), "%s", text);
    close(fd);
}

#endif
