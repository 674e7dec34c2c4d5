// Joins a room with the sign URL of an invitation mail, through matrix-js-sdk as web clients do.
// Reads one JSON object from standard input and says which room it has joined.

import { createClient } from "matrix-js-sdk";

let input = "";
for await (const chunk of process.stdin) input += chunk;
const { baseUrl, userId, accessToken, roomId, signUrl } = JSON.parse(input);

const client = createClient({ baseUrl, userId, accessToken });
const room = await client.joinRoom(roomId, { inviteSignUrl: signUrl });
process.stdout.write(JSON.stringify({ roomId: room.roomId }));
