package io.r2lock;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** Checks of what users pass in: an {@link IllegalArgumentException} that names the argument and its value. */
final class Arguments {

    /** The server counts milliseconds in an {@code int}: 24 days is the largest whole number of days that fits. */
    static final Duration LONGEST = Duration.ofDays(24);

    private Arguments() {}

    static <T> T notNull(String name, @Nullable T value) {
        if (value == null) {
            throw new IllegalArgumentException(name + " must not be null");
        }
        return value;
    }

    static int inRange(String name, int value, int least, int most) {
        if (value < least || value > most) {
            throw new IllegalArgumentException(name + " must be from " + least + " to " + most + ", was " + value);
        }
        return value;
    }

    static Duration inRange(String name, @Nullable Duration given, Duration least, Duration most) {
        Duration value = notNull(name, given);
        if (value.compareTo(least) < 0 || value.compareTo(most) > 0) {
            throw new IllegalArgumentException(name + " must be from " + least + " to " + most + ", was " + value);
        }
        return value;
    }

    static Duration wait(String name, @Nullable Duration given) {
        Duration value = notNull(name, given);
        if (value.isZero() || value.isNegative() || value.compareTo(LONGEST) > 0) {
            throw new IllegalArgumentException(name + " must be more than zero and at most " + LONGEST.toDays()
                    + " days, was " + value + "; noWait() does not wait, waitForever() has no bound");
        }
        return value;
    }

    static Duration hold(String name, @Nullable Duration given) {
        Duration value = notNull(name, given);
        if (value.isZero() || value.isNegative() || value.compareTo(LONGEST) > 0) {
            throw new IllegalArgumentException(
                    name + " must be more than zero and at most " + LONGEST.toDays() + " days, was " + value);
        }
        return value;
    }

    static Duration holdAtMost(@Nullable Duration given, @Nullable Duration atLeast) {
        Duration most = hold("hold", given);
        return atLeast == null ? most : inOrder(atLeast, most, most);
    }

    static Duration holdAtLeast(@Nullable Duration given, @Nullable Duration atMost) {
        Duration least = hold("hold", given);
        return atMost == null ? least : inOrder(least, atMost, least);
    }

    private static Duration inOrder(Duration least, Duration most, Duration given) {
        if (least.compareTo(most) > 0) {
            throw new IllegalArgumentException("hold must not leave holdAtLeast longer than holdAtMost, was " + given
                    + ": at least " + least + ", at most " + most);
        }
        return given;
    }

    static List<LockKey> keys(@Nullable LockKey key, LockKey @Nullable ... more) {
        LockKey[] others = notNull("more", more);
        if (others.length == 0) {
            return List.of(notNull("key", key));
        }
        List<@Nullable LockKey> keys = new ArrayList<>(others.length + 1);
        keys.add(notNull("key", key));
        keys.addAll(Arrays.asList(others));
        return canonical("more", keys);
    }

    static List<LockKey> keys(@Nullable Collection<LockKey> given) {
        Collection<LockKey> keys = notNull("keys", given);
        if (keys.isEmpty()) {
            throw new IllegalArgumentException("keys must not be empty, was " + keys);
        }
        return canonical("keys", keys);
    }

    /** One order everywhere, so that requests for several keys never deadlock each other. */
    private static List<LockKey> canonical(String name, Collection<? extends @Nullable LockKey> keys) {
        if (keys.stream().anyMatch(key -> key == null)) {
            throw new IllegalArgumentException(name + " must not contain null, was " + keys);
        }
        return keys.stream().map(key -> notNull(name, key)).distinct().sorted().toList();
    }
}
