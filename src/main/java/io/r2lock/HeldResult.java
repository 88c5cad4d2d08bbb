package io.r2lock;

import io.r2dbc.spi.Readable;
import io.r2dbc.spi.Result;
import io.r2dbc.spi.Row;
import io.r2dbc.spi.RowMetadata;
import java.util.function.BiFunction;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * A result read through the {@link Lane}. The user's functions run inside the driver's stream: what they throw must not reach
 * it, because it would stop reading there.
 */
final class HeldResult implements Result {

    private final LaneTicket ticket;
    private final Result driver;
    private final UnreadResult unread;

    private HeldResult(LaneTicket ticket, Result driver, UnreadResult unread) {
        this.ticket = ticket;
        this.driver = driver;
        this.unread = unread;
    }

    /** The results of one execution. */
    static Flux<Result> of(LaneTicket ticket, Supplier<Publisher<? extends Result>> execution) {
        return new LaneStream<>(
                ticket,
                reader ->
                        Flux.from(execution.get()).map(result -> new HeldResult(ticket, result, ticket.unread(result))),
                discarded -> ((HeldResult) discarded).unread.drain());
    }

    /** The results of one execution of a statement with bindings: the driver sends each when its result is read. */
    static Flux<Result> ofBindings(LaneTicket ticket, Supplier<Publisher<? extends Result>> execution) {
        return LaneStream.lazy(
                ticket,
                reader -> Flux.from(execution.get())
                        .map(result -> new HeldResult(ticket, result, ticket.unsent(result))));
    }

    private <T> LaneStream<T> stream(Function<LaneStream.Reader<T>, Publisher<? extends T>> source) {
        return new LaneStream<>(
                ticket, reader -> unread.take() ? source.apply(reader) : Mono.error(unread.lost()), discarded -> {});
    }

    @Override
    public Mono<Long> getRowsUpdated() {
        return Mono.from(this.<Long>stream(reader -> driver.getRowsUpdated()));
    }

    @Override
    public <T> Flux<T> map(BiFunction<Row, RowMetadata, ? extends T> mapping) {
        Arguments.notNull("mapping", mapping);
        return this.<T>mapped(reader ->
                driver.map((row, metadata) -> guarded(reader, () -> mapping.apply(row, metadata))));
    }

    @Override
    public <T> Flux<T> map(Function<? super Readable, ? extends T> mapping) {
        Arguments.notNull("mapping", mapping);
        return this.<T>mapped(reader -> driver.map(readable -> guarded(reader, () -> mapping.apply(readable))));
    }

    private <T> Flux<T> mapped(Function<LaneStream.Reader<Mapped<T>>, Publisher<? extends Mapped<T>>> source) {
        return stream(source).mapNotNull(mapped -> mapped.value);
    }

    /** A value of the user's mapping; without one where the mapping failed, or is not asked any more. */
    private record Mapped<T>(@Nullable T value) {}

    private static <T> Mapped<T> guarded(LaneStream.Reader<?> reader, Supplier<? extends @Nullable T> mapping) {
        if (reader.isDeaf()) {
            return new Mapped<>(null);
        }
        try {
            T value = mapping.get();
            if (value == null) {
                throw new NullPointerException("The mapping function returned null");
            }
            return new Mapped<>(value);
        } catch (RuntimeException | Error failure) {
            reader.fail(failure);
            return new Mapped<>(null);
        }
    }

    @Override
    public Result filter(Predicate<Segment> filter) {
        Arguments.notNull("filter", filter);
        return new HeldResult(ticket, driver.filter(filter), unread);
    }

    @Override
    public <T> Flux<T> flatMap(Function<Segment, ? extends Publisher<? extends T>> mapping) {
        Arguments.notNull("mapping", mapping);
        return this.<T>stream(reader -> driver.<T>flatMap(segment -> {
            if (reader.isDeaf()) {
                return Flux.empty();
            }
            return Flux.defer(() -> Flux.<T>from(mapping.apply(segment)))
                    // the driver waits for it before it reads on, even after the connection closed
                    .takeUntilOther(reader.silence())
                    .onErrorResume(failure -> {
                        reader.fail(failure);
                        return Flux.empty();
                    });
        }));
    }
}
