package io.r2lock;

class OldestInspectIT extends InspectContract {

    OldestInspectIT() {
        super(TestServer.oldest());
    }
}
