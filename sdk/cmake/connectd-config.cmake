# find_package(connectd): the target connectd::sdk and the function ctd_add_plugin().
include(${CMAKE_CURRENT_LIST_DIR}/connectd-targets.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/ctd_plugin.cmake)
