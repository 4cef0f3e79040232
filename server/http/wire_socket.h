/*
 * wire_socket: puts the strict reader (wire.h) between a socket and libmicrohttpd, which reads with
 * recv(2); see wire_socket.c for how.
 *
 *     struct srv_wire_socket wire = {.fd = fd, .begun = note_begin, .user = link};
 *     if (srv_wire_attach(&wire) < 0)
 *         …                                  // no such descriptor can be attached: close it
 *     …                                      // recv(fd, …, 0) now returns canonical requests
 *     srv_wire_detach(&wire);                // before the descriptor is closed
 */
#ifndef SRV_WIRE_SOCKET_H
#define SRV_WIRE_SOCKET_H

#include "server/http/wire.h"

enum { SRV_WIRE_DESCRIPTORS = 1 << 17 }; /* those below can be attached */

struct srv_wire_socket {
    int fd;
    struct srv_wire wire;
    void (*begun)(void *user); /* a request line has come; called in recv */
    void *user;
};

/* 0, or ELS_ELIMIT when the descriptor's number is too large. */
int srv_wire_attach(struct srv_wire_socket *socket);
/* Frees what the reader holds. Fine when it was never attached. */
void srv_wire_detach(struct srv_wire_socket *socket);

#endif
