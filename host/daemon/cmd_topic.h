/* connectd topic: read, write, create, delete, list, describe. argv[0] is "topic". Returns the
 * exit code: 0 ok, 1 failed, 2 wrong usage. */
#ifndef DAEMON_CMD_TOPIC_H
#define DAEMON_CMD_TOPIC_H

int cmd_topic(int argc, char **argv);

#endif
