/* The groups of tests of host/pipeline; test_main.c runs them. */
#ifndef PIPELINE_TESTS_H
#define PIPELINE_TESTS_H

int loop_tests(void);
int config_tests(void);
int validate_tests(void);
int restart_tests(void);

#endif
