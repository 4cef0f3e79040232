/*
 * Content negotiation: the examples of RFC 9110, section 12.5.1, and what clients send.
 */
#include "unit.h"

#include <string.h>

#include "server/http/negotiate.h"

static const char *const offers[] = {"application/json", "image/png", "application/x-npy", NULL};

static void assert_best(const char *accept, const char *best)
{
    const char *got = srv_negotiate_best(accept, offers);

    ck_assert_msg(best ? got && strcmp(got, best) == 0 : !got, "%s: %s", accept ? accept : "none",
                  got ? got : "nothing");
}

START_TEST(test_nothing_accepts_everything)
{
    assert_best(NULL, "application/json");
    assert_best("", "application/json");
    assert_best(" ", "application/json");
    assert_best("*/*", "application/json");
}
END_TEST

START_TEST(test_the_heaviest_wins)
{
    assert_best("image/png", "image/png");
    assert_best("IMAGE/PNG", "image/png");
    assert_best("image/png, application/json", "application/json");
    assert_best("image/png;q=0.9, application/json;q=0.8", "image/png");
    assert_best("image/png;q=0.123,application/json;q=0.124", "application/json");
    assert_best("application/x-npy ; q=1.000 , application/json;Q=0.5", "application/x-npy");
}
END_TEST

START_TEST(test_the_most_specific_counts)
{
    assert_best("*/*;q=0.1, image/*;q=0.2, image/png;q=0", "application/json");
    assert_best("application/*;q=0.5, image/png;q=0.6, application/x-npy;q=0.7",
                "application/x-npy");
    assert_best("application/json;q=0, */*", "image/png");
    assert_best("image/*", "image/png");
    /* What a browser sends for an <img>. */
    assert_best("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
                "image/png");
}
END_TEST

START_TEST(test_none)
{
    assert_best("text/html", NULL);
    assert_best("application/json;q=0", NULL);
    assert_best("*/*;q=0.000", NULL);
    assert_best("application", NULL);
    assert_best("application/", NULL);
    assert_best("image/pngx, image/pn", NULL);
    assert_best("*", NULL);
}
END_TEST

START_TEST(test_parameters_and_garbage)
{
    assert_best("application/json; charset=utf-8", "application/json");
    assert_best("image/png; level=1; q=0.5, application/json;q=0.4", "image/png");
    assert_best(",,, ;;;, image/png", "image/png");
    assert_best("image/png;q=", "image/png");
    assert_best("image/png;q=2", "image/png");
    assert_best("image/png;q=0.5x, application/json;q=0.6", "image/png");
    assert_best("text/html;q", NULL);
}
END_TEST

UNIT_MAIN("negotiate", test_nothing_accepts_everything, test_the_heaviest_wins,
          test_the_most_specific_counts, test_none, test_parameters_and_garbage)
