# The kernels for instruction sets: a file kernels/x86/<format>_<set>.cpp is compiled for its set,
# whatever the rest of the library is built for, and chosen at run time.

set(KERNEL_DIR "${CSRC_DIR}/kernels")
file(GLOB KERNEL_FORMATS CONFIGURE_DEPENDS "${KERNEL_DIR}/matmul/*/*.cpp")
set(KERNEL_COMMON "${KERNEL_DIR}/cpu_features.cpp" "${KERNEL_DIR}/registry.cpp" ${KERNEL_FORMATS})
file(GLOB KERNEL_GGML CONFIGURE_DEPENDS "${KERNEL_DIR}/ggml/*.cpp")
set(KERNEL_DEFINITIONS "")
set(KERNEL_SETS "")

set(KERNEL_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(KERNEL_FLAGS_avx_vnni ${KERNEL_FLAGS_avx2} -mavxvnni)
set(KERNEL_FLAGS_avx512 ${KERNEL_FLAGS_avx2} -mavx512f -mavx512bw -mavx512vl)
set(KERNEL_FLAGS_avx512vl_vnni ${KERNEL_FLAGS_avx512} -mavx512vnni)
set(KERNEL_FLAGS_avx512_vnni ${KERNEL_FLAGS_avx512} -mavx512vnni)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT MSVC)
    include(CheckCXXCompilerFlag)
    check_cxx_compiler_flag(-mavxvnni SHEILY_COMPILES_AVX_VNNI) # GCC 11, clang 12
    list(APPEND KERNEL_SETS avx2 avx512 avx512vl_vnni avx512_vnni)
    list(APPEND KERNEL_DEFINITIONS SHEILY_KERNELS_X86)
    if(SHEILY_COMPILES_AVX_VNNI)
        list(APPEND KERNEL_SETS avx_vnni)
        list(APPEND KERNEL_DEFINITIONS SHEILY_KERNELS_AVX_VNNI)
    endif()
endif()
set(KERNEL_SOURCES ${KERNEL_COMMON} ${KERNEL_GGML})
foreach(set IN LISTS KERNEL_SETS)
    file(GLOB KERNEL_FILES_${set} CONFIGURE_DEPENDS "${KERNEL_DIR}/x86/*_${set}.cpp")
    list(APPEND KERNEL_SOURCES ${KERNEL_FILES_${set}})
endforeach()

function(sheily_set_kernel_options warnings)
    set_source_files_properties(${KERNEL_COMMON} PROPERTIES COMPILE_OPTIONS "${warnings}")
    # ggml's headers have functions that are not used, and are not ours to change.
    set_source_files_properties(${KERNEL_GGML} PROPERTIES
        COMPILE_OPTIONS "${warnings};-Wno-unused-function")
    foreach(set IN LISTS KERNEL_SETS)
        # GCC's own AVX-512 headers set off -Wmaybe-uninitialized. No LTO: it would mix these files
        # with those for other instruction sets.
        set_source_files_properties(${KERNEL_FILES_${set}} PROPERTIES
            COMPILE_OPTIONS "${warnings};-Wno-maybe-uninitialized;-Wno-uninitialized;-O3;-fno-lto;${KERNEL_FLAGS_${set}}")
    endforeach()
endfunction()
