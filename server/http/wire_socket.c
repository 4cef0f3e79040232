/*
 * The program's own recv(2). libmicrohttpd 0.9.75 has no strict mode and shows nobody the raw bytes
 * of a request, but it is a shared library that reads its sockets with recv, and a symbol that the
 * executable defines comes before libc's. So this recv is called in its place: for sockets that are
 * attached it reads, checks (wire.c), and returns what passed; for all others, and with flags, it
 * does what libc's does.
 *
 * Called by libmicrohttpd on the connection's HTTP thread, where attach, detach and all callbacks of
 * that connection run, too.
 *
 * libmicrohttpd epolls for edges: it takes a read that is shorter than asked for as "no more for
 * now" and waits for an event. So a short read must mean that the socket is empty: what is not
 * passed on yet stays in the kernel (it is peeked at first), except for an unfinished head or chunk
 * line, which needs more bytes, and thereby an event, anyway.
 *
 * With a newer library (0.9.77, 1.x) this can go: MHD_OPTION_CLIENT_DISCIPLINE_LVL, which http.c sets
 * where there is one, refuses the same, and tests/service/test_smuggling.py says whether it does. What
 * then needs another place are the counts of wire.h. Should a library ever read in another way, then
 * no request gets past connection.c, which holds that each has come through here.
 *
 * The table from descriptors to sockets is the one mutable global of the server: recv has no other
 * argument by which to find its connection.
 */
#include "server/http/wire_socket.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "els/error.h"

enum {
    BLOCK = 4 << 10,
    MOST_DROPPED = 64, /* blocks in one call after a refusal: other connections have their turn */
};

static _Atomic(struct srv_wire_socket *) attached[SRV_WIRE_DESCRIPTORS];

int srv_wire_attach(struct srv_wire_socket *socket)
{
    if (socket->fd < 0 || socket->fd >= SRV_WIRE_DESCRIPTORS)
        return ELS_ELIMIT;
    atomic_store(&attached[socket->fd], socket);
    return 0;
}

void srv_wire_detach(struct srv_wire_socket *socket)
{
    if (socket->fd >= 0 && socket->fd < SRV_WIRE_DESCRIPTORS &&
        atomic_load(&attached[socket->fd]) == socket)
        atomic_store(&attached[socket->fd], NULL);
    srv_wire_deinit(&socket->wire);
}

static ssize_t libc_recv(int fd, void *out, size_t size, int flags)
{
    return recvfrom(fd, out, size, flags, NULL, NULL);
}

/* The bytes of a body, straight into the reader's buffer. */
static ssize_t read_direct(struct srv_wire_socket *socket, char *out, size_t size)
{
    uint64_t direct = srv_wire_direct(&socket->wire);
    ssize_t n = libc_recv(socket->fd, out, size < direct ? size : (size_t)direct, 0);

    if (n > 0)
        srv_wire_passed(&socket->wire, (size_t)n);
    return n;
}

/* Peeks, feeds, and takes from the socket what was used. *made of it is in `out`. Returns what recv
 * did, and 1 less than a block at most when the socket is empty now. */
static ssize_t read_fed(struct srv_wire_socket *socket, char *out, size_t size, size_t *made)
{
    char block[BLOCK];
    bool begun = srv_wire_has_begun(&socket->wire);
    size_t used = 0;
    ssize_t n = libc_recv(socket->fd, block, sizeof(block), MSG_PEEK);

    if (n <= 0)
        return n;
    *made = srv_wire_feed(&socket->wire, block, (size_t)n, &used, out, size);
    if (libc_recv(socket->fd, block, used, 0) != (ssize_t)used) {
        errno = EIO; /* cannot be: the bytes were there */
        return -1;
    }
    if (!begun && srv_wire_has_begun(&socket->wire) && socket->begun)
        socket->begun(socket->user);
    return used < (size_t)n ? BLOCK : n;
}

static ssize_t read_strictly(struct srv_wire_socket *socket, char *out, size_t size)
{
    const struct srv_wire *wire = &socket->wire;
    size_t done, used;
    ssize_t n = BLOCK, want = BLOCK;

    done = srv_wire_feed(&socket->wire, NULL, 0, &used, out, size);
    for (int dropped = 0; done < size && n >= want && dropped < MOST_DROPPED;) {
        uint64_t direct = srv_wire_direct(wire);
        size_t made = 0;

        want = direct && direct < size - done ? (ssize_t)direct
               : direct                       ? (ssize_t)(size - done)
                                              : BLOCK;
        n = direct ? read_direct(socket, out + done, size - done)
                   : read_fed(socket, out + done, size - done, &made);
        done += direct && n > 0 ? (size_t)n : made;
        dropped += wire->state == SRV_WIRE_DEAD;
    }
    if (done)
        return (ssize_t)done;
    if (n > 0) {
        errno = n < want ? EAGAIN : EINTR; /* EINTR: libmicrohttpd asks again without an event */
        return -1;
    }
    return n;
}

/* Visible, so that the dynamic linker finds it for the libraries, too. */
__attribute__((visibility("default"))) ssize_t recv(int fd, void *out, size_t size, int flags);

ssize_t recv(int fd, void *out, size_t size, int flags)
{
    struct srv_wire_socket *socket =
        fd >= 0 && fd < SRV_WIRE_DESCRIPTORS ? atomic_load(&attached[fd]) : NULL;

    return socket && !flags ? read_strictly(socket, out, size) : libc_recv(fd, out, size, flags);
}
