package io.r2lock;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * The hash of PostgreSQL's {@code hashtext} and {@code hashtextextended}: Bob Jenkins' lookup3 with PostgreSQL's start
 * value, over the bytes of a text under a deterministic collation.
 *
 * <p>Words are read little-endian, as servers on x86 and ARM do. A server on a big-endian machine computes other numbers.
 *
 * @see <a href="https://burtleburtle.net/bob/c/lookup3.c">lookup3.c</a>
 */
final class PostgresHash {

    /** Where lookup3 has 0xdeadbeef and a caller's initial value, PostgreSQL has the golden ratio and this constant. */
    private static final int START = 0x9e3779b9 + 3923095;

    private static final int BLOCK = 12;

    private int a;
    private int b;
    private int c;

    private PostgresHash(int length) {
        a = b = c = START + length;
    }

    static int hashtext(byte[] text) {
        PostgresHash hash = new PostgresHash(text.length);
        hash.absorb(text);
        return hash.c;
    }

    static long hashtextExtended(byte[] text, long seed) {
        PostgresHash hash = new PostgresHash(text.length);
        // a zero seed is not mixed in, so that the low half is hashtext
        if (seed != 0) {
            hash.a += (int) (seed >>> 32);
            hash.b += (int) seed;
            hash.mix();
        }
        hash.absorb(text);
        return ((long) hash.b << 32) | Integer.toUnsignedLong(hash.c);
    }

    private void absorb(byte[] text) {
        ByteBuffer words = ByteBuffer.wrap(text).order(ByteOrder.LITTLE_ENDIAN);
        while (words.remaining() >= BLOCK) {
            a += words.getInt();
            b += words.getInt();
            c += words.getInt();
            mix();
        }
        ByteBuffer tail = ByteBuffer.allocate(BLOCK).order(ByteOrder.LITTLE_ENDIAN);
        tail.put(words);
        a += tail.getInt(0);
        b += tail.getInt(4);
        // the lowest byte of c already holds the length: at most three bytes are left, and they go above it
        c += tail.getInt(8) << 8;
        finish();
    }

    private void mix() {
        a = (a - c) ^ Integer.rotateLeft(c, 4);
        c += b;
        b = (b - a) ^ Integer.rotateLeft(a, 6);
        a += c;
        c = (c - b) ^ Integer.rotateLeft(b, 8);
        b += a;
        a = (a - c) ^ Integer.rotateLeft(c, 16);
        c += b;
        b = (b - a) ^ Integer.rotateLeft(a, 19);
        a += c;
        c = (c - b) ^ Integer.rotateLeft(b, 4);
        b += a;
    }

    private void finish() {
        c = (c ^ b) - Integer.rotateLeft(b, 14);
        a = (a ^ c) - Integer.rotateLeft(c, 11);
        b = (b ^ a) - Integer.rotateLeft(a, 25);
        c = (c ^ b) - Integer.rotateLeft(b, 16);
        a = (a ^ c) - Integer.rotateLeft(c, 4);
        b = (b ^ a) - Integer.rotateLeft(a, 14);
        c = (c ^ b) - Integer.rotateLeft(b, 24);
    }
}
