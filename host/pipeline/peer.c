/* One runner process: sockets, shared page, death. */
#include "pipeline/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "pipeline/spawn.h"

#define SOCKET_BUFFER_BYTES (1 << 20)
#define CONTROL_OUT_LIMIT   (LINK_CONTROL_MAX * 2)
#define TURN_FRAMES         256
#define TURN_BYTES          ((int64_t)4 << 20)
#define LAST_TURNS          64 /* of a process that has ended: more than its sockets hold */

/* A frame being received: the head first, then the payload in memory of its own. */
struct inbox {
    uint8_t head[LINK_HEAD];
    size_t have; /* bytes of head and payload so far */
    uint8_t *body;
    size_t body_len;
    size_t max; /* longest frame allowed */
};

struct chunk {
    struct chunk *next;
    uint8_t *bytes; /* owned */
    size_t len, sent;
};

struct peer {
    struct loop *loop;
    struct peer_options options;
    pid_t pid;
    int reaped;
    int pidfd, control_fd, data_fd, lock_fd, stderr_fd;
    struct loop_io control_io, data_io, death_io, stderr_io;
    char said[1024]; /* an unfinished line of its standard error */
    size_t said_len;
    struct inbox control_in, data_in;
    struct buf control_out;
    size_t control_sent;
    struct chunk *data_out;
    struct chunk **data_end;
    size_t data_waiting;
    struct link_shared *shared;
    size_t shared_bytes;
    const char *fault; /* how it broke the rules of the link, or NULL */
    int *freed; /* set while a callback runs: tells whether pipeline_peer_free() was called in it */
};

#define PEER_OF(io, member) ((struct peer *)(void *)((char *)(io)-offsetof(struct peer, member)))

/* ---- receiving ---- */

/* Reads what is there, but no more than its share of a turn: other connectors wait. 1: go on
 * later; 0: the other side closed or broke the protocol; -1: a callback freed the peer. */
static int receive(struct peer *p, int fd, struct inbox *in)
{
    int64_t frames_left = TURN_FRAMES;
    int64_t bytes_left = TURN_BYTES;
    while (frames_left > 0 && bytes_left > 0) {
        ssize_t n;
        if (in->have < LINK_HEAD) {
            n = recv(fd, in->head + in->have, LINK_HEAD - in->have, 0);
        } else {
            size_t got = in->have - LINK_HEAD;
            n = recv(fd, in->body + got, in->body_len - got, 0);
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN || errno == EWOULDBLOCK;
        }
        if (n == 0) {
            return 0;
        }
        in->have += (size_t)n;
        bytes_left -= n;
        if (in->have == LINK_HEAD) {
            struct link_frame f;
            size_t need = 0;
            struct err err = ERR_INIT;
            if (link_frame_peek(in->head, LINK_HEAD, in->max, &f, &need, &err) < 0) {
                LOG_ERROR("pipeline", "runner pid %d sent a bad frame: %s", (int)p->pid, err.msg);
                p->fault = "it sent a frame that cannot be read";
                return 0;
            }
            in->body_len = need - LINK_HEAD;
            in->body = malloc(in->body_len + 1);
            if (in->body == NULL) {
                return 0;
            }
        }
        if (in->have < LINK_HEAD || in->have < LINK_HEAD + in->body_len) {
            continue;
        }
        struct link_frame f = {0};
        memcpy(&f.type, in->head + 4, sizeof(f.type));
        memcpy(&f.task, in->head + 8, sizeof(f.task));
        f.payload = slice_of(in->body, in->body_len);
        uint8_t *body = in->body;
        in->body = NULL;
        in->have = 0;
        int freed = 0;
        p->freed = &freed;
        p->options.frame(p->options.arg, &f, &body);
        free(body);
        if (freed) {
            return -1;
        }
        p->freed = NULL;
        frames_left--;
    }
    return 1;
}

/* ---- sending ---- */

static int send_control_now(struct peer *p)
{
    while (p->control_sent < p->control_out.len) {
        ssize_t n = send(p->control_fd, p->control_out.data + p->control_sent,
                         p->control_out.len - p->control_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN || errno == EWOULDBLOCK;
        }
        p->control_sent += (size_t)n;
    }
    buf_clear(&p->control_out);
    p->control_sent = 0;
    return 1;
}

static int send_data_now(struct peer *p)
{
    while (p->data_out != NULL) {
        struct chunk *c = p->data_out;
        ssize_t n = send(p->data_fd, c->bytes + c->sent, c->len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN || errno == EWOULDBLOCK;
        }
        c->sent += (size_t)n;
        p->data_waiting -= (size_t)n;
        if (c->sent == c->len) {
            p->data_out = c->next;
            if (p->data_out == NULL) {
                p->data_end = &p->data_out;
            }
            free(c->bytes);
            free(c);
        }
    }
    return 1;
}

static void watch_writable(struct peer *p)
{
    if (p->control_fd >= 0) {
        pipeline_loop_change(p->loop, &p->control_io,
                             EPOLLIN | (p->control_sent < p->control_out.len ? EPOLLOUT : 0));
    }
    if (p->data_fd >= 0) {
        pipeline_loop_change(p->loop, &p->data_io, EPOLLIN | (p->data_out != NULL ? EPOLLOUT : 0));
    }
}

static void close_socket(struct peer *p, int *fd, struct loop_io *io)
{
    if (*fd >= 0) {
        pipeline_loop_remove(p->loop, io);
        (void)close(*fd);
        *fd = -1;
    }
}

/* A socket that ended means that the process ends or that it misbehaved: either way it goes. */
static void lost(struct peer *p, int *fd, struct loop_io *io)
{
    close_socket(p, fd, io);
    pipeline_peer_kill(p);
}

/* ---- standard error: what plugins print, as log lines ---- */

static void say(struct peer *p)
{
    if (p->said_len > 0) {
        p->options.said(p->options.arg, p->said, p->said_len);
        p->said_len = 0;
    }
}

/* Reads once; 0 at its end. */
static int hear(struct peer *p)
{
    char bytes[4096];
    ssize_t n = read(p->stderr_fd, bytes, sizeof(bytes));
    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] != '\n') {
            p->said[p->said_len++] = bytes[i];
        }
        if (bytes[i] == '\n' || p->said_len == sizeof(p->said)) {
            say(p);
        }
    }
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void stderr_ready(struct loop_io *io, uint32_t events)
{
    struct peer *p = PEER_OF(io, stderr_io);
    (void)events;
    if (!hear(p)) {
        close_socket(p, &p->stderr_fd, &p->stderr_io);
    }
}

static void control_ready(struct loop_io *io, uint32_t events)
{
    struct peer *p = PEER_OF(io, control_io);
    int rc = 1;
    if ((events & EPOLLOUT) != 0) {
        rc = send_control_now(p);
        watch_writable(p);
    }
    if (rc == 1 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        rc = receive(p, p->control_fd, &p->control_in);
    }
    if (rc == 0) {
        lost(p, &p->control_fd, &p->control_io);
    }
}

static void data_ready(struct loop_io *io, uint32_t events)
{
    struct peer *p = PEER_OF(io, data_io);
    int rc = 1;
    if ((events & EPOLLOUT) != 0) {
        rc = send_data_now(p);
        watch_writable(p);
        if (rc == 1 && p->data_out == NULL && p->options.drained != NULL) {
            p->options.drained(p->options.arg);
        }
    }
    if (rc == 1 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        rc = receive(p, p->data_fd, &p->data_in);
    }
    if (rc == 0) {
        lost(p, &p->data_fd, &p->data_io);
    }
}

/* Reads a socket of a process that has ended to its end. 1: a callback freed the peer. */
static int last_words(struct peer *p, int fd, struct inbox *in)
{
    for (int i = 0; fd >= 0 && i < LAST_TURNS; i++) {
        int rc = receive(p, fd, in);
        if (rc < 0) {
            return 1;
        }
        uint8_t byte;
        if (rc == 0 || recv(fd, &byte, 1, MSG_PEEK) <= 0) {
            return 0;
        }
    }
    return 0;
}

/* The process is gone: what it had sent before is still in the sockets and is handled first. */
static void death_ready(struct loop_io *io, uint32_t events)
{
    (void)events;
    struct peer *p = PEER_OF(io, death_io);
    int status = 0;
    if (waitpid(p->pid, &status, WNOHANG) != p->pid) {
        return;
    }
    p->reaped = 1;
    pipeline_loop_remove(p->loop, &p->death_io);
    (void)kill(-p->pid, SIGKILL); /* what it forked must not feed the sockets on */
    if (last_words(p, p->data_fd, &p->data_in) || last_words(p, p->control_fd, &p->control_in)) {
        return;
    }
    close_socket(p, &p->control_fd, &p->control_io);
    close_socket(p, &p->data_fd, &p->data_io);
    for (int i = 0; p->stderr_fd >= 0 && i < LAST_TURNS && hear(p); i++) {
        struct pollfd more = {.fd = p->stderr_fd, .events = POLLIN};
        if (poll(&more, 1, 0) <= 0 || (more.revents & POLLIN) == 0) {
            break;
        }
    }
    say(p);
    p->options.dead(p->options.arg, status);
}

void pipeline_peer_send_control(struct peer *p, struct buf *frames)
{
    BUG_ON(frames->error != 0);
    if (p->control_sent > 0) { /* the limit is for what waits, not for what has gone */
        memmove(p->control_out.data, p->control_out.data + p->control_sent,
                p->control_out.len - p->control_sent);
        p->control_out.len -= p->control_sent;
        p->control_sent = 0;
    }
    buf_append(&p->control_out, frames->data, frames->len);
    buf_clear(frames);
    if (p->control_out.error != 0) {
        LOG_ERROR("pipeline", "runner pid %d does not read its control socket; killed",
                  (int)p->pid);
        p->fault = "it does not read its control socket";
        pipeline_peer_kill(p);
        return;
    }
    if (p->control_fd >= 0 && !send_control_now(p)) {
        pipeline_peer_kill(p);
    }
    watch_writable(p);
}

void pipeline_peer_send_data(struct peer *p, struct buf *frame)
{
    struct chunk *c = calloc(1, sizeof(*c));
    size_t len = 0;
    uint8_t *bytes = buf_take(frame, &len);
    if (c == NULL || bytes == NULL || p->data_fd < 0) {
        free(c);
        free(bytes);
        if (p->data_fd >= 0) {
            pipeline_peer_kill(p); /* out of memory: the runner would wait for ever */
        }
        return;
    }
    c->bytes = bytes;
    c->len = len;
    *p->data_end = c;
    p->data_end = &c->next;
    p->data_waiting += len;
    if (!send_data_now(p)) {
        pipeline_peer_kill(p);
    }
    watch_writable(p);
}

size_t pipeline_peer_data_waiting(const struct peer *p)
{
    return p->data_waiting;
}

/* ---- birth and death ---- */

static int open_lock(struct peer *p, const char *path, struct err *err)
{
    p->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (p->lock_fd < 0) {
        return err_set_errno(err, ERR_IO, "%s", path);
    }
    pid_t holder = pipeline_spawn_lock_holder(p->lock_fd);
    if (holder > 0) {
        (void)kill(-holder, SIGKILL);
        (void)kill(holder, SIGKILL);
        return err_set(err, ERR_BUSY, "an older runner (pid %d) is still ending", (int)holder);
    }
    return 0;
}

static int make_shared(struct peer *p, int *ret_fd, struct err *err)
{
    p->shared_bytes = link_shared_bytes(p->options.n_slots);
    *ret_fd = memfd_create("connectd-link", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*ret_fd < 0 || ftruncate(*ret_fd, (off_t)p->shared_bytes) != 0 ||
        fcntl(*ret_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return err_set_errno(err, ERR_IO, "cannot make the shared page");
    }
    void *map = mmap(NULL, p->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *ret_fd, 0);
    if (map == MAP_FAILED) {
        return err_set_errno(err, ERR_IO, "cannot map the shared page");
    }
    p->shared = map;
    atomic_store(&p->shared->n_slots, p->options.n_slots);
    return 0;
}

static int make_sockets(int control[2], int data[2], struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) != 0) {
        return err_set_errno(err, ERR_IO, "socketpair");
    }
    int bytes = SOCKET_BUFFER_BYTES;
    for (int i = 0; i < 2; i++) { /* as much as the system gives */
        (void)setsockopt(data[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
        (void)setsockopt(data[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    }
    if (fcntl(control[0], F_SETFL, O_NONBLOCK) != 0 || fcntl(data[0], F_SETFL, O_NONBLOCK) != 0) {
        return err_set_errno(err, ERR_IO, "socketpair");
    }
    return 0;
}

/* A pipe for what plugins print. Sanitizer builds keep the host's own: their reports must come whole. */
static int make_stderr(int said[2], struct err *err)
{
#ifdef CONNECTD_SANITIZER
    (void)said;
    (void)err;
#else
    if (pipe2(said, O_CLOEXEC) != 0 || fcntl(said[0], F_SETFL, O_NONBLOCK) != 0) {
        return err_set_errno(err, ERR_IO, "pipe");
    }
#endif
    return 0;
}

static int watch(struct peer *p, struct err *err)
{
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    if (p->pidfd < 0) {
        return err_set_errno(err, ERR_IO, "pidfd_open");
    }
    (void)fcntl(p->pidfd, F_SETFD, FD_CLOEXEC);
    p->control_io = (struct loop_io){.fd = p->control_fd, .ready = control_ready};
    p->data_io = (struct loop_io){.fd = p->data_fd, .ready = data_ready};
    if (p->stderr_fd >= 0) {
        p->stderr_io = (struct loop_io){.fd = p->stderr_fd, .ready = stderr_ready};
        TRY(pipeline_loop_add(p->loop, &p->stderr_io, EPOLLIN, err));
    }
    p->death_io = (struct loop_io){.fd = p->pidfd, .ready = death_ready};
    TRY(pipeline_loop_add(p->loop, &p->control_io, EPOLLIN, err));
    TRY(pipeline_loop_add(p->loop, &p->data_io, EPOLLIN, err));
    return pipeline_loop_add(p->loop, &p->death_io, EPOLLIN, err);
}

int pipeline_peer_spawn(struct loop *l, const struct peer_options *o, struct peer **ret,
                        struct err *err)
{
    struct peer *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    p->loop = l;
    p->options = *o;
    p->pidfd = p->control_fd = p->data_fd = p->lock_fd = p->stderr_fd = -1;
    p->data_end = &p->data_out;
    buf_init(&p->control_out, CONTROL_OUT_LIMIT);
    p->control_in.max = LINK_CONTROL_MAX;
    p->data_in.max = LINK_DATA_MAX;
    int control[2] = {-1, -1};
    int data[2] = {-1, -1};
    int said[2] = {-1, -1};
    int shared_fd = -1;
    int rc = open_lock(p, o->lock_path, err);
    rc = rc != 0 ? rc : make_shared(p, &shared_fd, err);
    rc = rc != 0 ? rc : make_sockets(control, data, err);
    rc = rc != 0 ? rc : make_stderr(said, err);
    p->stderr_fd = said[0];
    p->control_fd = control[0];
    p->data_fd = data[0];
    if (rc == 0) {
        int fds[4] = {control[1], data[1], shared_fd, p->lock_fd};
        rc = pipeline_spawn_runner(o->runner, fds, said[1], o->envp, &p->pid, err);
    }
    if (rc == 0) {
        rc = watch(p, err);
    }
    int done[4] = {control[1], data[1], shared_fd, said[1]};
    for (int i = 0; i < 4; i++) {
        if (done[i] >= 0) {
            (void)close(done[i]);
        }
    }
    if (p->lock_fd >= 0) { /* the runner has its own; ours must not keep the file open */
        (void)close(p->lock_fd);
        p->lock_fd = -1;
    }
    if (rc != 0) {
        pipeline_peer_free(p);
        return rc;
    }
    *ret = p;
    return 0;
}

void pipeline_peer_kill(struct peer *p)
{
    if (!p->reaped && p->pid > 0) {
        (void)kill(-p->pid, SIGKILL);
        (void)kill(p->pid, SIGKILL); /* before its setsid took effect */
    }
}

void pipeline_peer_free(struct peer *p)
{
    if (p == NULL) {
        return;
    }
    if (p->freed != NULL) {
        *p->freed = 1;
    }
    pipeline_peer_kill(p);
    if (!p->reaped && p->pid > 0) {
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    close_socket(p, &p->control_fd, &p->control_io);
    close_socket(p, &p->data_fd, &p->data_io);
    close_socket(p, &p->stderr_fd, &p->stderr_io);
    if (p->pidfd >= 0) {
        pipeline_loop_remove(p->loop, &p->death_io);
        (void)close(p->pidfd);
    }
    if (p->shared != NULL) {
        (void)munmap(p->shared, p->shared_bytes);
    }
    while (p->data_out != NULL) {
        struct chunk *c = p->data_out;
        p->data_out = c->next;
        free(c->bytes);
        free(c);
    }
    free(p->control_in.body);
    free(p->data_in.body);
    buf_free(&p->control_out);
    free(p);
}

const struct link_shared *pipeline_peer_shared(const struct peer *p)
{
    return p->shared;
}

uint32_t pipeline_peer_slots(const struct peer *p)
{
    return p->options.n_slots;
}

pid_t pipeline_peer_pid(const struct peer *p)
{
    return p->pid;
}

const char *pipeline_peer_fault(const struct peer *p)
{
    return p->fault;
}
