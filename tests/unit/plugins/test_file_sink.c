int file_sink_tests(void);
int file_sink_tests(void){return 0;}
