/* Unix sockets in the edge's folder that its agent listens on. */
#include "edge/edge_priv.h"

#include <errno.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 128

/*
 * Root's HAProxy has become an account of its own, which may not enter the folder. Its group may from now on, and can
 * list nothing there: what else is in the folder is closed to it, file by file.
 */
static bool let_engine_in(const char *folder, const char *socket, gid_t group) {
    char run[EDGE_PATH];
    edge_path(folder, "run", run);
    return chown(folder, (uid_t)-1, group) == 0 && chmod(folder, 0710) == 0 && chown(run, (uid_t)-1, group) == 0 &&
           chmod(run, 0710) == 0 && chown(socket, (uid_t)-1, group) == 0 && chmod(socket, 0660) == 0;
}

static int open_at(const char *folder, const char *path, enum edge_socket_for who) {
    struct io_addr a = io_addr_of_path(path);
    const struct group *g = who == EDGE_SOCKET_FOR_ENGINE && geteuid() == 0 ? getgrnam(HAPROXY_ACCOUNT) : NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t mask;
    if (fd < 0)
        return -1;
    (void)unlink(path); /* of an agent that was killed: the lock is ours */
    mask = umask(0177); /* nobody comes in before the mode is set */
    bool ok = bind(fd, (const struct sockaddr *)&a.ss, a.len) == 0;
    umask(mask);
    if (ok && (!g || let_engine_in(folder, path, g->gr_gid)) && listen(fd, BACKLOG) == 0)
        return fd;
    int e = errno;
    close(fd);
    errno = e;
    return -1;
}

int edge_socket_listen(struct io_loop *loop, const char *folder, const char *name, enum edge_socket_for who,
                       const struct io_listener_ops *ops, void *ctx, struct io_listener **out, struct ht_errmsg *err) {
    char path[EDGE_PATH];
    int fd = open_at(folder, edge_path(folder, name, path), who);
    *out = NULL;
    if (fd < 0)
        return ht_fail(err, HT_EIO, "cannot listen on %s: %s", path, strerror(errno));
    if (io_listen_adopt(loop, fd, ops, ctx, out) < 0)
        return ht_fail(err, HT_ENOMEM, "cannot listen on %s: out of memory", path);
    return HT_OK;
}
