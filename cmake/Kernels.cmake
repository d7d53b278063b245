# The kernels for Q8_0 weights: one file for each instruction set, compiled for it whatever the rest
# of the library is built for, and chosen at run time.

set(KERNEL_DIR "${CSRC_DIR}/kernels")
set(KERNEL_SOURCES "${KERNEL_DIR}/q8_0_select.cpp" "${KERNEL_DIR}/repack_buffer.cpp"
    "${KERNEL_DIR}/attention_op.cpp")
set(KERNEL_DEFINITIONS "")
set(KERNEL_FILES "")
set(KERNEL_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(KERNEL_FLAGS_avx512 ${KERNEL_FLAGS_avx2} -mavx512f -mavx512bw -mavx512vl)
set(KERNEL_FLAGS_q8_0_avx2 ${KERNEL_FLAGS_avx2})
set(KERNEL_FLAGS_q8_0_avx_vnni ${KERNEL_FLAGS_avx2} -mavxvnni)
set(KERNEL_FLAGS_q8_0_avx512vl_vnni ${KERNEL_FLAGS_avx512} -mavx512vnni)
set(KERNEL_FLAGS_q8_0_avx512_vnni ${KERNEL_FLAGS_avx512} -mavx512vnni)
set(KERNEL_FLAGS_attention_avx2 ${KERNEL_FLAGS_avx2})
set(KERNEL_FLAGS_attention_avx512 ${KERNEL_FLAGS_avx512})

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT MSVC)
    include(CheckCXXCompilerFlag)
    check_cxx_compiler_flag(-mavxvnni SHEILY_COMPILES_AVX_VNNI) # GCC 11, clang 12
    list(APPEND KERNEL_FILES q8_0_avx512_vnni q8_0_avx512vl_vnni q8_0_avx2 attention_avx512
        attention_avx2)
    list(APPEND KERNEL_DEFINITIONS SHEILY_KERNELS_X86)
    if(SHEILY_COMPILES_AVX_VNNI)
        list(APPEND KERNEL_FILES q8_0_avx_vnni)
        list(APPEND KERNEL_DEFINITIONS SHEILY_KERNEL_AVX_VNNI)
    endif()
endif()
foreach(name IN LISTS KERNEL_FILES)
    list(APPEND KERNEL_SOURCES "${KERNEL_DIR}/${name}.cpp")
endforeach()

function(sheily_set_kernel_options warnings)
    set_source_files_properties("${KERNEL_DIR}/q8_0_select.cpp" PROPERTIES
        COMPILE_OPTIONS "${warnings}")
    # ggml's headers are not ours to mend.
    set_source_files_properties("${KERNEL_DIR}/repack_buffer.cpp"
        "${KERNEL_DIR}/attention_op.cpp" PROPERTIES
        COMPILE_OPTIONS "${warnings};-Wno-unused-function")
    foreach(name IN LISTS KERNEL_FILES)
        # GCC's own AVX-512 headers set off -Wmaybe-uninitialized. No LTO: it would mix these files
        # with those for other instruction sets.
        set_source_files_properties("${KERNEL_DIR}/${name}.cpp" PROPERTIES
            COMPILE_OPTIONS "${warnings};-Wno-maybe-uninitialized;-Wno-uninitialized;-O3;-fno-lto;${KERNEL_FLAGS_${name}}")
    endforeach()
endfunction()
