# Install rules and the package config: find_package(brim COMPONENTS dataloader) works without LibTorch.
include(CMakePackageConfigHelpers)
get_property(modules GLOBAL PROPERTY BRIM_MODULES)
foreach(module IN LISTS modules)
  install(TARGETS brim_${module} EXPORT brim_${module} ARCHIVE DESTINATION lib)
  install(EXPORT brim_${module} NAMESPACE brim:: DESTINATION lib/cmake/brim)
endforeach()
configure_package_config_file(cmake/brimConfig.cmake.in "${PROJECT_BINARY_DIR}/brimConfig.cmake"
                              INSTALL_DESTINATION lib/cmake/brim)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/brimConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/brimConfig.cmake" "${PROJECT_BINARY_DIR}/brimConfigVersion.cmake"
              cmake/FindLMDB.cmake DESTINATION lib/cmake/brim)
install(DIRECTORY configs DESTINATION share/brim)
