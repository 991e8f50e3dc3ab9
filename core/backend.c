/* Finds and opens the shared object with the CUDA device (backend.h). What comes out of it, also why not, is remembered. */
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "die.h"

static const char NAME[] = "libcocod-cuda.so";

/* The folder of this program, "." if the system does not say. */
static void program_folder(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);
	char *slash;

	path[n > 0 ? n : 0] = 0;
	slash = strrchr(path, '/');
	if (slash)
		*slash = 0;
	else
		memcpy(path, ".", 2);
}

/* The first of the places that has one; NULL: none, *why lists them. For ever. */
static char *find(const char **why)
{
	const char *named = getenv("COCOD_BACKEND");
	char folder[PATH_MAX];
	char *beside, *installed;

	if (named && *named) {
		if (access(named, F_OK) == 0)
			return xstrdup(named);
		*why = xasprintf("there is no %s, which $COCOD_BACKEND names", named);
		return NULL;
	}
	program_folder(folder, sizeof(folder));
	beside = xasprintf("%s/%s", folder, NAME);
	installed = xasprintf("%s/../lib/cocod-train/%s", folder, NAME);
	if (access(beside, F_OK) == 0) {
		free(installed);
		return beside;
	}
	if (access(installed, F_OK) == 0) {
		free(beside);
		return installed;
	}
	*why = xasprintf("there is neither %s nor %s: this is a build without CUDA", beside, installed);
	free(beside);
	free(installed);
	return NULL;
}

static const struct backend *open_at(const char *path, const char **why)
{
	/* Lazily: of the libraries behind it, only what is used must be there. Locally: its names are nobody else's. */
	void *object = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
	const struct backend *b;
	backend_fn *get;
	void *symbol;

	if (!object) {
		*why = xasprintf("cannot load it: %s", dlerror());
		return NULL;
	}
	symbol = dlsym(object, BACKEND_SYMBOL);
	if (!symbol) {
		*why = xasprintf("%s has no %s", path, BACKEND_SYMBOL);
		dlclose(object);
		return NULL;
	}
	memcpy(&get, &symbol, sizeof(get));     /* C knows no cast from an object to a function */
	b = get();
	if (b->abi != BACKEND_ABI) {
		*why = xasprintf("%s belongs to another version of this program (%d, not %d)", path, b->abi, BACKEND_ABI);
		dlclose(object);
		return NULL;
	}
	return b;
}

const struct backend *backend_open(const char **why)
{
	static const struct backend *backend;
	static const char *reason;
	static bool tried;
	char *path;

	if (!tried) {
		tried = true;
		path = find(&reason);
		if (path)
			backend = open_at(path, &reason);
		free(path);
	}
	if (why)
		*why = reason;
	return backend;
}

bool backend_likely(void)
{
	const char *named = getenv("COCOD_BACKEND");

	return (named && *named) || access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0;
}
