package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Function;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Streams of items on a server that answers at once, whose works end when the test says so. */
final class KeyedCalls {

    final FakeClient client;
    final Map<Integer, Sinks.One<Integer>> works = new ConcurrentHashMap<>();

    /** The items whose work has begun. */
    final List<Integer> begun = new CopyOnWriteArrayList<>();

    /** The key of an item is its tens. */
    final Function<Integer, LockRequest> byTens = item -> exclusive(item / 10);

    KeyedCalls() {
        this(new FakeClient());
    }

    KeyedCalls(FakeClient client) {
        this.client = client;
        client.open();
    }

    void close() {
        client.assertRest();
        client.close();
    }

    LockRequest exclusive(int key, int... more) {
        List<LockKey> keys = new ArrayList<>(List.of(LockKey.of(key)));
        for (int one : more) {
            keys.add(LockKey.of(one));
        }
        return client.locks.exclusive(keys).inSession();
    }

    /** A key for each item. */
    LockRequest own(Integer item) {
        return exclusive(item);
    }

    private Sinks.One<Integer> end(int item) {
        return works.computeIfAbsent(item, none -> Sinks.one());
    }

    Mono<Integer> work(Integer item) {
        begun.add(item);
        return end(item).asMono();
    }

    /** A turn may come on another thread. */
    void awaitBegun(int count) {
        FakeClient.until("work " + count, () -> begun.size() >= count);
        assertThat(begun).hasSize(count);
    }

    void assertBegun(Integer... items) {
        awaitBegun(items.length);
        assertThat(begun).containsExactly(items);
    }

    /** Whether the work of the item is subscribed to. */
    boolean runs(int item) {
        return end(item).currentSubscriberCount() > 0;
    }

    void finish(int item) {
        end(item).tryEmitValue(item).orThrow();
    }

    void fail(int item, Throwable error) {
        end(item).tryEmitError(error).orThrow();
    }

    Flux<Integer> stream(Publisher<Integer> source, int concurrency) {
        return client.locks.flatMapLocked(source, byTens, this::work, concurrency);
    }

    static KeyedTaker taker(Flux<Integer> stream, long request) {
        KeyedTaker taker = new KeyedTaker();
        stream.subscribe(taker);
        if (request > 0) {
            taker.request(request);
        }
        return taker;
    }
}
