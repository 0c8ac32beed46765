// The limit that a fan-out is measured against: one epoll loop, one finished frame, one send() for each subscriber.
//
//     gcc -O2 -o fanout_server fanout_server.c && ./fanout_server      prints its port; ends with its standard input
//
// GET opens a WebSocket (nothing is checked, the accept key is a constant) and subscribes it; ping frames are answered.
// The body of a POST is broadcast as it is, then answered 200. Nothing else is handled: no partial sends, no slow readers.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FD = 70000, INPUT = 16384 };

typedef struct {
  int websocket;
  int length;
  int place;  // index among the subscribers
  int capacity;
  char *input;
} connection;

static connection *connections[MAX_FD];
static int subscribers[MAX_FD], count;

static const char ACCEPTED[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char DONE[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

static void broadcast(const char *payload, int size) {
  char frame[INPUT + 4];
  int head = 2;
  frame[0] = (char)0x81;
  if (size < 126) {
    frame[1] = (char)size;
  } else {
    frame[1] = 126, frame[2] = (char)(size >> 8), frame[3] = (char)size;
    head = 4;
  }
  memcpy(frame + head, payload, size);
  for (int i = 0; i < count; i++)
    if (send(subscribers[i], frame, head + size, MSG_DONTWAIT | MSG_NOSIGNAL) != head + size) abort();
}

static void forget(int fd) {
  connection *c = connections[fd];
  if (c->websocket) {
    int last = subscribers[--count];
    subscribers[c->place] = last;
    connections[last]->place = c->place;
  }
  free(c->input);
  free(c);
  connections[fd] = NULL;
  close(fd);
}

// Returns the bytes of input that were used; 0 when a request is not complete yet.
static int http(int fd, connection *c) {
  char *end = memmem(c->input, c->length, "\r\n\r\n", 4);
  if (!end) return 0;
  int head = end + 4 - c->input;
  if (c->input[0] == 'G') {
    send(fd, ACCEPTED, sizeof ACCEPTED - 1, MSG_NOSIGNAL);
    c->websocket = 1;
    c->place = count;
    subscribers[count++] = fd;
    return head;
  }
  *end = 0;
  char *field = strcasestr(c->input, "content-length:");
  int size = field ? atoi(field + 15) : 0;
  *end = '\r';
  if (c->length < head + size) return 0;
  broadcast(c->input + head, size);
  send(fd, DONE, sizeof DONE - 1, MSG_NOSIGNAL);
  return head + size;
}

// One small masked frame; a ping is answered, anything else is dropped.
static int frame(int fd, connection *c) {
  unsigned char *p = (unsigned char *)c->input;
  if (c->length < 6 || c->length < 6 + (p[1] & 127)) return 0;
  int size = p[1] & 127;
  if ((p[0] & 15) == 9) {
    char pong[2 + 127] = {(char)0x8a, (char)size};
    for (int i = 0; i < size; i++) pong[2 + i] = p[6 + i] ^ p[2 + (i & 3)];
    send(fd, pong, 2 + size, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  return 6 + size;
}

static void readable(int fd) {
  connection *c = connections[fd];
  if (!c->input) c->input = malloc(c->capacity = c->websocket ? 256 : INPUT);
  int got = recv(fd, c->input + c->length, c->capacity - c->length, MSG_DONTWAIT);
  if (got <= 0) {
    forget(fd);
    return;
  }
  c->length += got;
  for (int used; c->length && (used = c->websocket ? frame(fd, c) : http(fd, c)) > 0;) {
    c->length -= used;
    memmove(c->input, c->input + used, c->length);
  }
  if (!c->length && c->websocket) {  // an idle subscriber holds no buffer
    free(c->input);
    c->input = NULL;
  }
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listener, (void *)&address, size) || listen(listener, 4096)) return 1;
  getsockname(listener, (void *)&address, &size);
  printf("{\"port\": %d}\n", ntohs(address.sin_port));
  fflush(stdout);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[512];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  event.data.fd = STDIN_FILENO;
  epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
  for (;;) {
    int ready = epoll_wait(poll, events, 512, -1);
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd;
      if (fd == STDIN_FILENO) return 0;
      if (fd != listener) {
        readable(fd);
        continue;
      }
      for (int peer; (peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[peer] = calloc(1, sizeof(connection));
        event.data.fd = peer;
        epoll_ctl(poll, EPOLL_CTL_ADD, peer, &event);
      }
    }
  }
}
