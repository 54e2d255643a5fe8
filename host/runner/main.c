/* connectd-runner: which of the two things it is to do. */
#include <stdio.h>
#include <string.h>

#include "runner.h"

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--describe") == 0) {
        return runner_describe(argv[2]);
    }
    if (argc == 2 && strcmp(argv[1], "--run") == 0) {
        return runner_run();
    }
    (void)fputs("usage: connectd-runner --describe FILE\n"
                "connectd starts it; --run speaks to its host on inherited descriptors\n",
                stderr);
    return 2;
}
