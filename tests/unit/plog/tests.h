/* The groups of tests that main.c runs. */
#ifndef TESTS_PLOG_TESTS_H
#define TESTS_PLOG_TESTS_H

int run_basic_tests(void);
int run_recover_tests(void);
int run_fault_tests(void);
int run_crash_tests(void);
int run_stress_tests(void);

int write_topics(const char *dir);

#endif
