/*
 * elsd: score machines over HTTP. Everything is in the library that the tests link too.
 */
#include "server/base/daemon.h"

int main(int argc, char **argv)
{
    return srv_daemon_main(argc, argv);
}
