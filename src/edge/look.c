#include "edge/look.h"

#include "edge/edge_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool usable(char *out, const char *folder, size_t n, const char *name) {
    int len = snprintf(out, EDGE_PROGRAM, "%.*s/%s", (int)n, folder, name);
    return n > 0 && folder[0] == '/' && len < EDGE_PROGRAM && access(out, X_OK) == 0;
}

bool edge_look_program(const char *name, char out[EDGE_PROGRAM]) {
    static const char more[] = "/usr/sbin:/usr/local/sbin:/sbin";
    const char *lists[] = {getenv("PATH"), more};
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++)
        for (const char *at = lists[i]; at && *at; at += strcspn(at, ":"), at += *at == ':')
            if (usable(out, at, strcspn(at, ":"), name))
                return true;
    out[0] = '\0';
    return false;
}

static bool takes_connections(const char *path) {
    struct io_addr a = io_addr_of_path(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, (const struct sockaddr *)&a.ss, a.len) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

void edge_look_folder(const char *folder, struct edge_folder_facts *out) {
    char path[EDGE_PATH];
    struct stat st;
    *out = (struct edge_folder_facts){.there = lstat(folder, &st) == 0};
    if (!out->there)
        return;
    out->is_folder = S_ISDIR(st.st_mode);
    out->owner = st.st_uid;
    out->mode = st.st_mode & 07777;
    if (strlen(folder) > EDGE_FOLDER_MAX)
        return;
    out->served = takes_connections(edge_path(folder, EDGE_ADMIN_SOCKET, path));
    int fd = open(edge_path(folder, "lock", path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    out->busy = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
}

int edge_look_port(int family, int type, uint16_t port) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    const void *to = family == AF_INET ? (const void *)&v4 : &v6;
    int fd = socket(family, type | SOCK_CLOEXEC, 0), one = 1, why;
    if (fd < 0)
        return errno;
    if (family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (type == SOCK_STREAM)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool ok = bind(fd, to, family == AF_INET ? sizeof v4 : sizeof v6) == 0;
    ok = ok && (type != SOCK_STREAM || listen(fd, 1) == 0);
    why = ok ? 0 : errno;
    close(fd);
    return why == EADDRNOTAVAIL && family == AF_INET6 ? EAFNOSUPPORT : why;
}

bool edge_look_is_own(int family, const uint8_t *addr) {
    struct ifaddrs *all = NULL;
    bool found = false;
    if (getifaddrs(&all) != 0)
        return false;
    for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != family)
            continue;
        if (family == AF_INET)
            found = memcmp(&((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr, addr, 4) == 0;
        else
            found = memcmp(&((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr, addr, 16) == 0;
    }
    freeifaddrs(all);
    return found;
}
