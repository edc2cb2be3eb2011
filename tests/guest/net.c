/* What of a network and of inter-process communication reaches a program. */
#define _GNU_SOURCE
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <mqueue.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_errno(const char *address, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    /* A network may lose the packet, and the kernel would try for two minutes. */
    struct timeval most = {.tv_sec = 2};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    int error = connect(fd, (struct sockaddr *)&to, sizeof to) ? errno : 0;
    close(fd);
    return error;
}

/* A server of its own on localhost, and a connection to it. */
static int own_loopback_errno(void)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof own;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int error = 0;
    if (bind(fd, (struct sockaddr *)&own, sizeof own) || listen(fd, 1) ||
        getsockname(fd, (struct sockaddr *)&own, &size))
        error = errno;
    if (!error)
        error = connect_errno("127.0.0.1", ntohs(own.sin_port));
    close(fd);
    return error;
}

/* netprobe [PORT]: the interfaces, a loopback of its own, and the host's server on PORT. */
static int cmd_netprobe(int argc, char **argv)
{
    int port = atoi(arg(argc, argv, 1, "9"));
    struct if_nameindex *all = if_nameindex();
    printf("interfaces=");
    for (struct if_nameindex *i = all; i && i->if_name; i++)
        printf("%s%s", i == all ? "" : ",", i->if_name);
    struct ifreq lo = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    printf("\nlo_up=%d\n", fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &lo) == 0 && (lo.ifr_flags & IFF_UP) ? 1 : 0);
    printf("own_loopback=%s\n", errno_name(own_loopback_errno()));
    printf("host_port=%s\n", errno_name(connect_errno("127.0.0.1", port)));
    printf("outside=%s\n", errno_name(connect_errno("192.0.2.1", 9)));
    return 0;
}

static socklen_t abstract(struct sockaddr_un *address, const char *name)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path + 1, name, sizeof address->sun_path - 2);
    return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

/* abstract-listen NAME SECONDS: an abstract socket, kept that long. */
static int cmd_abstract_listen(int argc, char **argv)
{
    struct sockaddr_un address;
    socklen_t size = abstract(&address, arg(argc, argv, 1, NULL));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 1))
        die("abstract socket");
    write_all(1, "ready\n", 6);
    sleep_ns(parse_seconds(arg(argc, argv, 2, "0")));
    return 0;
}

static int cmd_abstract_connect(int argc, char **argv)
{
    struct sockaddr_un address;
    socklen_t size = abstract(&address, arg(argc, argv, 1, NULL));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    printf("connect=%s\n", errno_name(connect(fd, (struct sockaddr *)&address, size) ? errno : 0));
    return 0;
}

/* ipc-leave: SysV shared memory, a message queue and a file in /dev/shm, all left behind. */
static int cmd_ipc_leave(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 16};
    printf("shm=%s\n", errno_name(shmget(0x57a7, 4096, IPC_CREAT | 0666) < 0 ? errno : 0));
    printf("mq=%s\n", errno_name(mq_open("/guest", O_CREAT | O_RDWR, 0666, &attributes) < 0 ? errno : 0));
    printf("devshm=%s\n", errno_name(open("/dev/shm/guest", O_CREAT | O_RDWR, 0666) < 0 ? errno : 0));
    return 0;
}

/* ipc-find: whether it finds what ipc-leave left. */
static int cmd_ipc_find(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("shm=%s\n", errno_name(shmget(0x57a7, 4096, 0) < 0 ? errno : 0));
    printf("mq=%s\n", errno_name(mq_open("/guest", O_RDWR) < 0 ? errno : 0));
    printf("devshm=%s\n", errno_name(open("/dev/shm/guest", O_RDWR) < 0 ? errno : 0));
    return 0;
}

const struct command net_commands[] = {
    {"netprobe", cmd_netprobe, "[PORT]"},
    {"abstract-listen", cmd_abstract_listen, "NAME [SECONDS]"},
    {"abstract-connect", cmd_abstract_connect, "NAME"},
    {"ipc-leave", cmd_ipc_leave, ""},
    {"ipc-find", cmd_ipc_find, ""},
    {NULL, NULL, NULL},
};
