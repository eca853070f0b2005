/*
 * New TLS connections, each with one request: tls_load PORT HOST full|resumed SECONDS CLIENTS. Prints connections a
 * second.
 *
 * CLIENTS processes, each with one connection at a time. `resumed`: each goes on with the session of the one before it.
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static SSL_SESSION *latest;

static int keep(SSL *ssl, SSL_SESSION *session) {
    (void)ssl;
    SSL_SESSION_free(latest);
    latest = session;
    return 1;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool visit(SSL_CTX *ctx, unsigned short port, const char *host, bool resume) {
    char buf[8192];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), n = 0, got = 0;
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, host);
    if (resume && latest)
        SSL_set_session(ssl, latest);
    bool known = resume && latest;
    bool ok = connect(fd, (struct sockaddr *)&a, sizeof a) == 0 && SSL_connect(ssl) == 1;
    ok = ok && (!known || SSL_session_reused(ssl));
    n = snprintf(buf, sizeof buf, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
    ok = ok && SSL_write(ssl, buf, n) == n;
    for (n = 0; ok && (n = SSL_read(ssl, buf + got, (int)sizeof buf - 1 - got)) > 0;)
        got += n;
    ok = ok && got > 12 && memcmp(buf, "HTTP/1.1 200", 12) == 0;
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    ERR_clear_error();
    return ok;
}

static long client(unsigned short port, const char *host, bool resume, double seconds) {
    long n = 0;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep);
    for (double end = now() + seconds; now() < end; n++)
        if (!visit(ctx, port, host, resume)) {
            fprintf(stderr, "tls_load: a connection failed, or was not resumed\n");
            return -1;
        }
    return n;
}

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    int out[2], clients = atoi(argv[5]), failed = 0, status;
    double seconds = atof(argv[4]);
    if (pipe(out) != 0)
        return 1;
    for (int i = 0; i < clients; i++)
        if (fork() == 0) {
            long n = client((unsigned short)atoi(argv[1]), argv[2], strcmp(argv[3], "resumed") == 0, seconds);
            _exit(n < 0 || write(out[1], &n, sizeof n) != sizeof n);
        }
    close(out[1]);
    long all = 0, n;
    while (read(out[0], &n, sizeof n) == sizeof n)
        all += n;
    while (wait(&status) > 0)
        failed += status != 0;
    printf("%.1f\n", (double)all / seconds);
    return failed ? 1 : 0;
}
