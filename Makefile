# cocod-train. Knobs, on the command line or in the environment:
#
#   CUDA=auto|0|1    the CUDA device (libcocod-cuda.so beside the program): auto takes it if scripts/find-cuda finds all, 1 insists
#   CUDA_ARCH="compute_80 sm_90a"   what kernels are compiled for: sm_… machine code, compute_… PTX for any later GPU
#   ONEDNN=auto|0|1  oneDNN for convolutions that are not 3x3 stride 1 (libdnnl 2.6 or 3.x); 0: plain C reference kernels, slow
#   DEBUG=1          -O1 -g, for the debugger
#   ASAN=1           address and undefined-behaviour sanitizers
#   TSAN=1           thread sanitizer (one compute thread, ONEDNN=0)
#   V=1              show the commands
#   ONLY="net conv"  (check) only the tests with one of these words in their names; RANKS="1 3": worlds of the MPI ones
#   CC=gcc|clang     WERROR=1 (warnings are errors, as in CI)     PREFIX=/usr/local  DESTDIR=
#
# Targets: all (default, ./cocod-train), check, mutate, bench, check-gpu, bench-gpu, install, uninstall, clean. Objects of different knobs live in
# different folders below build/ and never mix.

CUDA ?= auto
ONEDNN ?= auto
DEBUG ?= 0
ASAN ?= 0
TSAN ?= 0
WERROR ?= 0
V ?= 0
PREFIX ?= /usr/local
ifeq ($(origin CC),default)
CC := gcc
endif
MPICC ?= mpicc

Q := $(if $(filter 1,$(V)),,@)
ARCH := $(shell uname -m)
VERSION := 0.1.0

# ---- what is there ----

ifneq ($(TSAN),0)
override ONEDNN := 0
endif
# A make before 4.3 wants the # in a function escaped, a later one takes the backslash along: a variable suits both.
HASH := \#
ifeq ($(ONEDNN),auto)
override ONEDNN := $(shell printf '$(HASH)include <dnnl.h>\nint main(void){return !dnnl_version();}' | \
	$(CC) -xc - -ldnnl -o /dev/null 2>/dev/null && echo 1 || echo 0)
endif
CUDA_ARCH ?= compute_80 sm_90a
ifneq ($(CUDA),0)
FOUND := $(shell scripts/find-cuda 2>/dev/null | tr '\n' '|')
ifneq ($(FOUND),)
found = $(patsubst $(1)=%,%,$(subst @, ,$(filter $(1)=%,$(subst |, ,$(subst $(EMPTY) ,@,$(FOUND))))))
NVCC := $(call found,NVCC)
CUDA_CFLAGS := $(call found,CUDA_CFLAGS)
CUDA_LIBS := $(call found,CUDA_LIBS)
override CUDA := 1
else ifeq ($(CUDA),1)
$(error CUDA=1: $(shell scripts/find-cuda 2>&1 >/dev/null))
else
override CUDA := 0
endif
endif

# ---- flags ----

BUILD := build/$(notdir $(CC))$(if $(filter 1,$(ONEDNN)),-dnnl)$(if $(filter 1,$(DEBUG)),-debug)$(if $(filter 1,$(ASAN)),-asan)$(if $(filter 1,$(TSAN)),-tsan)

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla -Wmissing-prototypes $(if $(filter 1,$(WERROR)),-Werror)
OPT := $(if $(filter 1,$(DEBUG)),-O1 -g,-O2 -g)
MPI_CFLAGS := $(shell $(MPICC) --showme:compile 2>/dev/null | sed 's/-I/-isystem /g')
MPI_LIBS := $(shell $(MPICC) --showme:link 2>/dev/null)
ifeq ($(MPI_LIBS),)
MPI_LIBS := $(shell pkg-config --libs ompi-c 2>/dev/null || echo -lmpi)
endif
SAN := $(if $(filter 1,$(ASAN)),-fsanitize=address -fsanitize=undefined -fno-sanitize-recover=undefined)$(if $(filter 1,$(TSAN)),-fsanitize=thread)
CFLAGS ?=
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARN) $(OPT) -fopenmp -fno-math-errno -ffp-contract=off -pthread $(SAN) \
	-DCOCOD_VERSION='"$(VERSION)"' -DCOCOD_SHARE='"$(PREFIX)/share/cocod-train"' $(CFLAGS)
# -rdynamic: what libcocod-cuda.so calls is in the program.
LIBS = -rdynamic $(if $(filter 1,$(ONEDNN)),-ldnnl) -lconfig -lz $(MPI_LIBS) -lm -pthread -fopenmp $(SAN) $(LDFLAGS)

# Kernels (core/cpu/kernel) are compiled once for each instruction set and chosen at run time. They may contract a*b+c.
ISA_base :=
ISA_avx2 := -mavx2 -mfma
ISA_avx512 := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mprefer-vector-width=512
ISAS := base $(if $(filter x86_64,$(ARCH)),avx2 avx512)
KERNEL_CFLAGS = -O3 -ffp-contract=fast -fno-trapping-math

# ---- sources ----

LIB_SRC := $(filter-out comm/comm_nccl.c,$(wildcard comm/*.c)) $(wildcard core/*.c core/cpu/*.c models/*.c data/*.c comm/sync/*.c comm/compress/*.c comm/topology/*.c comm/schedule/*.c)
CMD_SRC := $(wildcard cmd/*.c)
KERNEL_SRC := $(wildcard core/cpu/kernel/*.c)
LIB_SRC := $(filter-out $(if $(filter 1,$(ONEDNN)),core/cpu/dnnl_none.c,core/cpu/dnnl_conv.c),$(LIB_SRC))

DEVICES := cpu reference
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o) $(foreach i,$(ISAS),$(KERNEL_SRC:%.c=$(BUILD)/%.$(i).o)) $(BUILD)/device_list.o
CMD_OBJ := $(CMD_SRC:%.c=$(BUILD)/%.o)
TESTS := $(patsubst test/%.c,$(BUILD)/test/%,$(wildcard test/test_*.c))
BENCHES := $(patsubst test/%.c,$(BUILD)/test/%,$(wildcard test/bench_*.c))

# The CUDA device and NCCL, a shared object of their own (core/backend.h).
CUDA_SRC := $(wildcard core/cuda/*.c core/cuda/*.cu) comm/comm_nccl.c
CUDA_OBJ := $(CUDA_SRC:%=$(BUILD)/cuda/%.o)
# The same sources with test/emulator for CUDA, cuDNN, cuBLASLt and NCCL: kernels and all logic run on the CPU, in tests.
LIBRARY_SRC := $(filter-out core/cuda/conv.c,$(wildcard core/cuda/cudnn*.c core/cuda/cublas*.c core/cuda/conv*.c))
EMULATED_SRC := $(filter-out $(LIBRARY_SRC),$(CUDA_SRC)) $(filter-out %selfcheck.cu,$(wildcard test/emulator/*.c test/emulator/*.cc test/emulator/*.cu))
EMULATED_OBJ := $(EMULATED_SRC:%=$(BUILD)/emulated/%.o)

all: cocod-train $(if $(filter 1,$(CUDA)),libcocod-cuda.so,no-cuda)

no-cuda:        # an older one would still be opened
	$(Q)rm -f libcocod-cuda.so

# ./cocod-train is what the last make built, whatever the knobs of the one before.
cocod-train: $(BUILD)/cocod-train FORCE
	$(Q)cmp -s $< $@ || { cp -f $< $@.tmp && mv -f $@.tmp $@; }

libcocod-cuda.so: $(BUILD)/libcocod-cuda.so FORCE
	$(Q)cmp -s $< $@ || { cp -f $< $@.tmp && mv -f $@.tmp $@; }

$(BUILD)/cocod-train: $(CMD_OBJ) $(BUILD)/libcocod.a
	@echo "  LINK  $@"
	$(Q)$(CC) -o $@ $^ $(LIBS)

$(BUILD)/libcocod.a: $(LIB_OBJ)
	@echo "  AR    $@"
	$(Q)rm -f $@ && ar rcs $@ $^

# Whatever else changes what an object is (CFLAGS, CUDA_ARCH, PREFIX, the compiler's version) makes all of them anew.
# What only the CUDA objects are made from is theirs: CUDA=0 and CUDA=1 in turn cost nothing.
FLAGS := $(subst ','\'',$(filter-out $(WARN),$(ALL_CFLAGS)) $(shell $(CC) -dumpfullversion -dumpversion 2>/dev/null))
CUDA_FLAGS := $(subst ','\'',$(NVCC) $(CUDA_ARCH) $(CUDA_CFLAGS))
keep_text = $(Q)mkdir -p $(@D) && echo '$(1)' | cmp -s - $@ || echo '$(1)' > $@
$(BUILD)/flags: FORCE
	$(call keep_text,$(FLAGS))
$(BUILD)/cuda/flags: FORCE
	$(call keep_text,$(CUDA_FLAGS))
FORCE:

$(BUILD)/%.o: %.c $(BUILD)/flags
	@echo "  CC    $<"
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) $(if $(filter comm/comm_mpi.c test/bench_allreduce.c test/test_mpi_comm_transport.c,$<),$(MPI_CFLAGS)) -MMD -MP -c $< -o $@

define kernel_rule
$(BUILD)/core/cpu/kernel/%.$(1).o: core/cpu/kernel/%.c $(BUILD)/flags
	@echo "  CC    $$< ($(1))"
	$$(Q)mkdir -p $$(@D) && $$(CC) $$(ALL_CFLAGS) $$(KERNEL_CFLAGS) $$(ISA_$(1)) -DKERNEL_ISA=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call kernel_rule,$(i))))

# ---- the CUDA device ----

NVCC_FLAGS = -std=c++17 -O3 $(foreach a,$(CUDA_ARCH),-gencode=arch=$(patsubst sm_%,compute_%,$(a)),code=$(a)) -lineinfo \
	$(if $(filter 1,$(WERROR)),-Werror all-warnings -Xcompiler -Werror) -Xcompiler -Wall,-Wextra \
	-Xcompiler -fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics
$(BUILD)/cuda/%.cu.o: %.cu $(BUILD)/flags $(BUILD)/cuda/flags
	@echo "  NVCC  $<"
	$(Q)mkdir -p $(@D) && $(NVCC) $(NVCC_FLAGS) -MD -MF $(@:.o=.d) -c $< -o $@
$(BUILD)/cuda/%.c.o: %.c $(BUILD)/flags $(BUILD)/cuda/flags
	@echo "  CC    $< (CUDA)"
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -fPIC -fvisibility=hidden $(CUDA_CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/libcocod-cuda.so: $(CUDA_OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) -shared -o $@ $^ $(CUDA_LIBS) -lm $(SAN)

# As nvcc: its header is always there, no exceptions; nothing is contracted, on any machine.
CXX_FLAGS = -std=c++17 -O2 -g -fPIC -fvisibility=hidden -Wall -Wextra -Wno-unknown-pragmas $(if $(filter 1,$(WERROR)),-Werror) $(SAN) \
	-ffp-contract=off -Itest/emulator
$(BUILD)/emulated/%.cu.o: %.cu $(BUILD)/flags
	@echo "  CXX   $< (emulated)"
	$(Q)mkdir -p $(@D) && $(CXX) -x c++ $(CXX_FLAGS) -include cuda_runtime.h -fno-exceptions -fno-rtti -Wno-maybe-uninitialized -MMD -MP -c $< -o $@
$(BUILD)/emulated/%.cc.o: %.cc $(BUILD)/flags
	@echo "  CXX   $<"
	$(Q)mkdir -p $(@D) && $(CXX) $(CXX_FLAGS) -MMD -MP -c $< -o $@
$(BUILD)/emulated/%.c.o: %.c $(BUILD)/flags
	@echo "  CC    $< (emulated)"
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -Itest/emulator -MMD -MP -c $< -o $@
$(BUILD)/emulated/libcocod-cuda.so: $(EMULATED_OBJ)
	@echo "  LINK  $@"
	$(Q)$(CXX) -shared -o $@ $^ -lpthread -lm $(SAN)
# cuDNN builds plans for a GPU that is only described, and cuBLASLt's descriptors need none: what of them can be tested without one.
CUDA_CHECKS := $(if $(filter 1,$(CUDA)),$(BUILD)/test/plan_check $(BUILD)/test/conv_check)
CHECK_LIBS = $(filter-out %libcudart_static.a,$(CUDA_LIBS)) $(LIBS) -ldl
$(BUILD)/test/plan_check: $(BUILD)/cuda/test/plan_check.c.o $(foreach f,cudnn_graph conv_rules,$(BUILD)/cuda/core/cuda/$(f).c.o) $(BUILD)/libcocod.a
	@echo "  LINK  $@"
	$(Q)mkdir -p $(@D) && $(CC) -o $@ $^ $(CHECK_LIBS)
$(BUILD)/test/conv_check: $(BUILD)/cuda/test/conv_check.c.o $(LIBRARY_SRC:%=$(BUILD)/cuda/%.o) $(BUILD)/cuda/core/cuda/conv.c.o $(BUILD)/libcocod.a
	@echo "  LINK  $@"
	$(Q)mkdir -p $(@D) && $(CC) -o $@ $^ $(CHECK_LIBS)

# The emulator's own test.
$(BUILD)/test/emulator: $(BUILD)/emulated/test/emulator/selfcheck.cu.o $(foreach f,block stream runtime,$(BUILD)/emulated/test/emulator/$(f).cc.o)
	@echo "  LINK  $@"
	$(Q)$(CXX) -o $@ $^ -lpthread $(SAN)
emulated: $(BUILD)/emulated/libcocod-cuda.so $(BUILD)/test/emulator

# The devices that are linked in, in the order in which "auto" tries them; and the instruction sets that were compiled.
$(BUILD)/device_list.c: Makefile
	$(Q)mkdir -p $(@D) && { echo '#include "core/device.h"'; \
	for d in $(DEVICES); do echo "extern const struct device_ops device_$$d;"; done; \
	echo 'const struct device_ops *const device_list[] = {'; for d in $(DEVICES); do echo "	&device_$$d,"; done; echo '	0,'; echo '};'; } > $@
$(BUILD)/device_list.o: $(BUILD)/device_list.c $(BUILD)/flags
	$(Q)$(CC) $(ALL_CFLAGS) -I. -MMD -MP -c $< -o $@

$(BUILD)/test/%: $(BUILD)/test/%.o $(BUILD)/libcocod.a
	@echo "  LINK  $@"
	$(Q)$(CC) -o $@ $^ $(LIBS)

tests: $(TESTS) $(BENCHES) $(CUDA_CHECKS) $(BUILD)/test/trace_check

check: all tests $(if $(shell command -v $(CXX) 2>/dev/null),emulated)
	$(Q)BUILD=$(BUILD) CUDA=$(CUDA) ONEDNN=$(ONEDNN) ASAN=$(ASAN) TSAN=$(TSAN) CC=$(CC) test/run $(ONLY)

mutate:
	$(Q)test/mutate

bench: all tests
	$(Q)BUILD=$(BUILD) scripts/bench/all

# On a machine with a GPU.
check-gpu bench-gpu: all tests
	$(Q)$(if $(filter 1,$(CUDA)),,echo "no CUDA device was built: $$(scripts/find-cuda 2>&1 >/dev/null)" >&2; exit 1;) \
	BUILD=$(BUILD) scripts/gpu/$(@:%-gpu=%)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/cocod-train/clusters $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 cocod-train $(DESTDIR)$(PREFIX)/bin/
	$(if $(filter 1,$(CUDA)),install -d $(DESTDIR)$(PREFIX)/lib/cocod-train && install -m 755 libcocod-cuda.so $(DESTDIR)$(PREFIX)/lib/cocod-train/)
	install -m 644 cocod.cfg.example $(DESTDIR)$(PREFIX)/share/cocod-train/
	install -m 644 scripts/clusters/*.cfg $(DESTDIR)$(PREFIX)/share/cocod-train/clusters/
	install -m 644 docs/cocod-train.1 $(DESTDIR)$(PREFIX)/share/man/man1/

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/cocod-train $(DESTDIR)$(PREFIX)/share/man/man1/cocod-train.1
	rm -rf $(DESTDIR)$(PREFIX)/share/cocod-train $(DESTDIR)$(PREFIX)/lib/cocod-train

clean:
	rm -rf build cocod-train libcocod-cuda.so

.PHONY: all no-cuda tests emulated check mutate bench check-gpu bench-gpu install uninstall clean FORCE
.SECONDARY:

-include $(shell find build -name '*.d' -path '$(BUILD)/*' 2>/dev/null)
