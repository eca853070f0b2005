/* Whether QUIC answers: only a version negotiation for our own question counts. */
#include "edge/look.h"
#include "support/tap.h"

#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int server(uint16_t *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static bool comes(int fd) { return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 5000) == 1; }

/* A question, and one answer to it, which `spoil` changes at a place (-1: nowhere) or cuts (-2). */
static bool answered(int spoil) {
    uint16_t port;
    uint8_t q[2048], a[64] = {0x80};
    struct sockaddr_in who;
    socklen_t n = sizeof who;
    int s = server(&port), c = edge_quic_ask(port);
    CU_ASSERT_TRUE_FATAL(c >= 0);
    CU_ASSERT_FALSE(edge_quic_answered(c)); /* nothing is there */
    CU_ASSERT_TRUE(comes(s));
    ssize_t got = recvfrom(s, q, sizeof q, 0, (struct sockaddr *)&who, &n);
    CU_ASSERT_TRUE(got >= 1200); /* a server may drop a shorter one */
    CU_ASSERT_TRUE(q[0] & 0x80);
    CU_ASSERT_TRUE((q[1] & 15) == 10 && (q[2] & 15) == 10 && (q[3] & 15) == 10 && (q[4] & 15) == 10);
    size_t d = q[5], o = q[6 + d];
    memcpy(a + 5, q + 6 + d, o + 1); /* its id is first in the answer, ours follows */
    memcpy(a + 6 + o, q + 5, d + 1);
    memcpy(a + 7 + o + d, "\0\0\0\1", 4);
    size_t len = 7 + o + d + 4;
    if (spoil >= 0)
        a[spoil] ^= 0x80;
    CU_ASSERT_TRUE(sendto(s, a, spoil == -2 ? len - 4 : len, 0, (struct sockaddr *)&who, n) > 0);
    CU_ASSERT_TRUE(comes(c));
    bool yes = edge_quic_answered(c);
    close(c);
    close(s);
    return yes;
}

static void our_own_alone(void) {
    CU_ASSERT_TRUE(answered(-1));
    CU_ASSERT_FALSE(answered(-2));
    for (int i = 0; i < 23; i++)
        CU_ASSERT_FALSE(answered(i));
}

static void nobody(void) {
    uint16_t port;
    close(server(&port));
    int c = edge_quic_ask(port); /* ICMP says that nobody is there, and reading says so */
    CU_ASSERT_FALSE(c >= 0 && edge_quic_answered(c));
    if (c >= 0)
        close(c);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"an answer to our question, and nothing that is changed or cut", our_own_alone},
        {"nobody is there", nobody},
        {NULL, NULL},
    };
    return tap_main("quic", tests);
}
