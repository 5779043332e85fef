import { Empty } from "../../kit/state";

export default function Page() {
  return <main id="main"><Empty en="Nothing here yet." zh="暂无内容。" /></main>;
}
