"""Every error that the service answers with, as RFC 9457 problem details in English and Chinese.

    raise ProblemError("unknown_decision", actual="...", expected="...")

PROBLEM_TYPES holds all of them: routes raise nothing else, the OpenAPI document lists each, and GET /problems/{kind}
explains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from datasets.errors import FieldError

PROBLEM_MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """`detail` and `detail_zh` may have the placeholders {found} and {needed}."""

    status: int
    title: str
    title_zh: str
    detail: str
    detail_zh: str


PROBLEM_TYPES: dict[str, ProblemType] = {
    "empty_body": ProblemType(
        400, "The request has no body", "请求没有正文",
        "No body was found; {needed} is needed.", "没有正文；需要 {needed}。",
    ),
    "not_utf8": ProblemType(
        400, "The request is not UTF-8 text", "请求不是 UTF-8 文本",
        "{found}; UTF-8 is needed. Save or send the text again as UTF-8.", "{found}；需要 UTF-8。请以 UTF-8 重新发送。",
    ),
    "malformed_json": ProblemType(
        400, "The request cannot be read as JSON", "请求无法按 JSON 读取",
        "{found}. Each name stands once in its object; JSON has no NaN and no infinity: leave a missing value out, or "
        "send null.",
        "{found}。同一对象中每个名称只能出现一次；JSON 没有 NaN 和无穷大：缺失的值请省略或写 null。",
    ),
    "malformed_multipart": ProblemType(
        400, "The request cannot be read as multipart/related", "请求无法按 multipart/related 读取",
        "{found}; {needed} is needed. Nothing of the request was stored.",
        "{found}；需要 {needed}。本次请求未存储任何内容。",
    ),
    "bad_header": ProblemType(
        400, "A header cannot be used", "请求头不可用",
        "{found}; {needed} is needed.", "{found}；需要 {needed}。",
    ),
    "bad_parameter": ProblemType(
        422, "A query parameter cannot be used", "地址中的参数不可用",
        "The faults are listed under errors.", "错误见 errors。",
    ),
    "no_token": ProblemType(
        401, "A token is needed", "需要令牌",
        "The request brought none. Send Authorization: Bearer and a token; python -m serving token makes one, and the "
        "pages take one to sign in.",
        "请求未携带令牌。请以 Authorization: Bearer 发送；可用 python -m serving token 生成，网页登录亦可使用。",
    ),
    "bad_token": ProblemType(
        401, "The token cannot be used", "令牌不可用",
        "{found}. Ask whoever gave it for a new one.", "{found}。请向签发方索取新令牌。",
    ),
    "not_allowed": ProblemType(
        403, "The role does not allow this", "角色无此权限",
        "The token has the roles {found}; {needed} is needed.", "令牌角色为 {found}；需要 {needed}。",
    ),
    "not_a_pathologist": ProblemType(
        403, "Only a pathologist may do this", "仅限病理医师操作",
        "{found}; the token of a pathologist, with name and licence, is needed. python -m serving token --role "
        "pathologist makes one.",
        "{found}；需要含姓名与执业证号的病理医师令牌。可用 python -m serving token --role pathologist 生成。",
    ),
    "cross_site": ProblemType(
        403, "Another site's page may not ask this", "不接受其他网站页面的请求",
        "A session counts for this service's own pages; the request comes from {found}. Programs send Authorization: "
        "Bearer.",
        "会话仅用于本服务自身页面；请求来自 {found}。程序请使用 Authorization: Bearer。",
    ),
    "authorisation_ended": ProblemType(
        403, "An authorisation ended while the answer was made", "作答期间授权已终止",
        "The authorisation {found} was revoked or ran out. This answer was not recorded (of a batch, pieces before "
        "it may be). Ask again, without what it opened.",
        "授权 {found} 已撤销或到期。本次答复未作记录（批次中此前的部分可能已记录）。"
        "请重新请求，其所授权的指标将不再读取。",
    ),
    "not_found": ProblemType(
        404, "There is no such path", "没有这个地址",
        "{found} is not a path of this service. GET /openapi.json lists them.",
        "{found} 不是本服务的地址。GET /openapi.json 列出全部地址。",
    ),
    "unknown_checkpoint": ProblemType(
        404, "The log has no checkpoint of this size", "日志没有这一条目数的检查点",
        "A checkpoint over {found} entries is not of this log, which has {needed}. Send the size of one of its own.",
        "本日志有 {needed} 个条目，没有含 {found} 个条目的检查点。请填写本日志检查点的条目数。",
    ),
    "unknown_model": ProblemType(
        404, "No such model is served", "没有提供该模型",
        "The model {found} is not served; {needed} is. GET /v1/models lists what is.",
        "未提供模型 {found}；现有 {needed}。GET /v1/models 列出全部模型。",
    ),
    "unknown_subject": ProblemType(
        404, "No such subject is in the store", "库中没有该主体",
        "Nothing is stored under the subject id {found}. Send the indicators inline, or load them first.",
        "库中没有主体 {found}。请直接发送指标，或先入库。",
    ),
    "not_authorised": ProblemType(
        403, "No authorisation opens these indicators", "没有可用的授权",
        "No live authorisation of {needed} for this purpose opens: {found}. Nothing was read. Have it granted (python "
        "-m serving grant create, or POST /v1/authorisations), or send the indicators that are yours to send.",
        "以下指标组没有有效授权：{found}；需要{needed}。未读取任何数据。请取得授权（python -m serving grant create 或 "
        "POST /v1/authorisations），或自行发送指标。",
    ),
    "unknown_authorisation": ProblemType(
        404, "There is no such authorisation", "没有该授权",
        "No authorisation was entered under {found}. GET /v1/authorisations lists them.",
        "没有编号为 {found} 的授权。GET /v1/authorisations 列出全部授权。",
    ),
    "indicators_refused": ProblemType(
        500, "The stored indicators were changed", "库中指标已被改动",
        "{found}", "库中该主体的指标与入库时不符，拒绝读取。请重新入库，并查明是谁改动了数据库。",
    ),
    "unknown_decision": ProblemType(
        404, "No such decision was recorded", "没有该决定的记录",
        "No decision was recorded under {found}. Check the id that the answer gave as decision_id.",
        "没有编号为 {found} 的决定。请核对答复中的 decision_id。",
    ),
    "unknown_receipt": ProblemType(
        404, "There is no receipt of such a decision", "没有该决定的凭证",
        "No decision with a receipt was recorded under {found}. Check the id that the answer gave as decision_id; what "
        "was answered before there was an audit log has none.",
        "没有编号为 {found} 且附凭证的决定。请核对答复中的 decision_id；审计日志启用之前的答复没有凭证。",
    ),
    "unknown_company": ProblemType(
        404, "No such company is in the store", "库中没有该企业",
        "Nothing is stored about the company {found}. Check its id, or load the register that names it first.",
        "库中没有企业 {found}。请核对编号，或先载入含该企业的名录。",
    ),
    "unknown_version": ProblemType(
        404, "There is no such version", "没有该版本",
        "There is no bundle {found}. GET /v1/models/NAME/versions lists them.",
        "没有版本 {found}。GET /v1/models/NAME/versions 列出全部版本。",
    ),
    "not_promotable": ProblemType(
        409, "This version may not serve", "该版本不得上线",
        "{found}; a version that passed its gate, or that has no verdict and served before, is needed. "
        "What failed stands under errors. Train it anew, or let two scientists force it: both send force: true and a "
        "reason.",
        "{found}；需要通过门槛检查的版本，或没有检查结论但曾上线的版本。"
        "未通过的检查见 errors。请重新训练，或由两名数据科学人员先后附理由强制上线（force: true）。",
    ),
    "unknown_batch": ProblemType(
        404, "No such batch was recorded", "没有该批次的记录",
        "No batch was recorded under {found}. Check the Batch-Id header of the answer.",
        "没有编号为 {found} 的批次。请核对答复的 Batch-Id。",
    ),
    "unknown_slide": ProblemType(
        404, "No such slide is in the store", "库中没有该切片",
        "No slide has the id {found}. GET /v1/slides lists them.",
        "没有编号为 {found} 的切片。GET /v1/slides 列出全部切片。",
    ),
    "unknown_upload": ProblemType(
        404, "There is no such upload", "没有该上传",
        "There is no upload {found}. Create one: POST /v1/uploads.",
        "没有编号为 {found} 的上传。请先 POST /v1/uploads。",
    ),
    "unknown_report": ProblemType(
        404, "No such report was signed", "没有该版本的报告",
        "The slide has no report of version {found}; it has {needed}.", "该切片没有第 {found} 版报告；现有 {needed}。",
    ),
    "method_not_allowed": ProblemType(
        405, "The path does not accept this method", "该地址不接受此方法",
        "{found} was sent; {needed} is accepted.", "收到 {found}；仅接受 {needed}。",
    ),
    "not_acceptable": ProblemType(
        406, "None of the formats asked for can be given", "无法提供所要求的格式",
        "Accept asks for {found}; {needed} can be given.", "Accept 要求 {found}；可提供 {needed}。",
    ),
    "slow_request": ProblemType(
        408, "The request took too long to arrive", "请求到达过慢",
        "The body did not arrive within {needed}. Send it again, over a faster connection or in smaller parts.",
        "正文未在 {needed} 内到达。请重试，或分成较小的部分。",
    ),
    "another_person": ProblemType(
        409, "Another person has signed in in this browser", "本浏览器已由他人登录",
        "The page shows {found}; the browser's session is now of {needed}. Nothing was done. Load the page anew: it "
        "then shows who is signed in.",
        "页面显示 {found}；浏览器会话现属于 {needed}。未执行任何操作。请重新加载页面，以显示当前登录人。",
    ),
    "batch_running": ProblemType(
        409, "A batch with this Idempotency-Key is still running", "使用该幂等键的批次仍在处理",
        "Batch {found} was started with this key and is not done. Ask again when GET /v1/batches/{found} says done.",
        "批次 {found} 已用此键启动且尚未完成。待 GET /v1/batches/{found} 显示完成后再请求。",
    ),
    "upload_offset": ProblemType(
        409, "The upload stands at another offset", "上传偏移量不一致",
        "Upload-Offset is {found}; {needed} bytes are on the disk. Continue from the offset that HEAD returns.",
        "Upload-Offset 为 {found}；已存 {needed} 字节。请以 HEAD 查询后从该处续传。",
    ),
    "slide_state": ProblemType(
        409, "The slide's state does not allow this", "切片当前状态不允许此操作",
        "The slide is {found}; {needed} is needed. Its address under /v1/slides/ tells its state.",
        "切片状态为 {found}；需要 {needed}。其在 /v1/slides/ 下的地址可查询状态。",
    ),
    "group_complete": ProblemType(
        409, "The group of files cannot take this file", "该文件组不能再加入此文件",
        "{found}. Files of another slide need another group; a file of this one must be sent before all are here.",
        "{found}。其他切片的文件请使用另一组名；本切片的文件须在全部到齐之前上传。",
    ),
    "upload_gone": ProblemType(
        410, "The upload is over", "上传已结束",
        "{found}, and nothing more can be sent to it. Create a new one: POST /v1/uploads.",
        "{found}，不能再续传。请重新 POST /v1/uploads。",
    ),
    "tus_version": ProblemType(
        412, "This version of tus is not supported", "不支持该 tus 版本",
        "Tus-Resumable is {found}; {needed} is needed.", "Tus-Resumable 为 {found}；需要 {needed}。",
    ),
    "upload_too_large": ProblemType(
        413, "The upload is too large", "上传过大",
        "{found} were announced or sent; at most {needed} are accepted.", "上传为 {found}；最多接受 {needed}。",
    ),
    "body_too_large": ProblemType(
        413, "The body is too large", "正文过大",
        "{found} were announced or sent; at most {needed} are accepted. Send less at a time, or use the batch.",
        "正文为 {found}；最多接受 {needed}。请减少内容，或使用批量接口。",
    ),
    "unsupported_media_type": ProblemType(
        415, "The body's media type is not accepted", "不接受该媒体类型",
        "Content-Type is {found}; {needed} is needed.", "Content-Type 为 {found}；需要 {needed}。",
    ),
    "invalid_request": ProblemType(
        422, "The request is not valid", "请求不符合要求",
        "The faults are listed under errors. Correct them and send the request again.",
        "错误见 errors。请更正后重新发送。",
    ),
    "invalid_batch": ProblemType(
        422, "The batch as a whole cannot be answered", "该批次整体无法处理",
        "It was not answered as a whole; pieces before the fault may be recorded and charged. The faults are listed "
        "under errors.",
        "该批次未能整体作答；出错之前的部分可能已记录并计费。错误见 errors。",
    ),
    "upload_sha256": ProblemType(
        422, "The slide is not the one that was announced", "切片与所声明的不一致",
        "The SHA-256 of what came is {found}; {needed} was announced. Compare the file with its origin and send it "
        "anew: the slide is failed, what came is kept until the upload expires.",
        "收到内容的 SHA-256 为 {found}；声明为 {needed}。请核对文件后重新上传："
        "该切片记为失败，已收内容保留至上传过期。",
    ),
    "upload_locked": ProblemType(
        423, "Another request writes to this upload", "另一请求正在写入该上传",
        "One request at a time may write to the upload {found}. Send HEAD after a while, and continue from its offset.",
        "上传 {found} 同一时刻只能由一个请求写入。请稍后以 HEAD 查询再续传。",
    ),
    "key_reused": ProblemType(
        409, "The Idempotency-Key belongs to another request", "该幂等键属于另一请求",
        "The key {found} was first used with another body or other options. Use a new key for a new request.",
        "幂等键 {found} 首次使用时正文或参数不同。新请求请用新键。",
    ),
    "rate_exceeded": ProblemType(
        429, "The tenant sends too many requests", "请求过于频繁",
        "Calls beyond {found} are refused. Send the request again after the seconds of Retry-After.",
        "超过{found}的请求被拒绝。请在 Retry-After 所示秒数后重发。",
    ),
    "quota_used": ProblemType(
        429, "The month's answers are used up", "本月配额已用完",
        "{found} of {needed} answers were given this month. Ask the operator for more, or wait for the next month.",
        "本月已用 {found} 次，配额为 {needed} 次。请联系运营方增加配额，或等待下月。",
    ),
    "headers_too_large": ProblemType(
        431, "The headers are too large", "请求头过大",
        "{found} of headers were sent; at most {needed} are accepted.", "请求头为 {found}；最多接受 {needed}。",
    ),
    "slide_unreadable": ProblemType(
        422, "The slide cannot be shown", "切片无法显示",
        "{found}.", "{found}。",
    ),
    "upload_checksum": ProblemType(
        460, "The part does not have its checksum", "分段校验和不符",
        "The {found}; {needed} was announced. The part was not kept: send it again.",
        "{found}；声明为 {needed}。该分段未保留，请重发。",
    ),
    "internal": ProblemType(
        500, "The service failed", "服务出错",
        "Nothing was answered. The failure is in the service's log under this request's id.",
        "未作答复。故障已记入服务日志，见本请求编号。",
    ),
    "store_locked": ProblemType(
        503, "The store is held by another process", "存储被其他进程占用",
        "Nothing was answered, as no answer goes out without its record: {found}. Send the same request again.",
        "未作答复，因为没有记录就不作答复：{found}。请稍后重发同一请求。",
    ),
    "store_full": ProblemType(
        503, "The store accepts no more records", "存储无法再写入记录",
        "Nothing was answered, as no answer goes out without its record: {found}. Free the disk, then send it again.",
        "未作答复，因为没有记录就不作答复：{found}。请清理磁盘后重发。",
    ),
    "store_failed": ProblemType(
        503, "The store failed", "存储出错",
        "Nothing was answered, as no answer goes out without its record: {found}. Send the same request again.",
        "未作答复，因为没有记录就不作答复：{found}。请稍后重发同一请求。",
    ),
    "not_ready": ProblemType(
        503, "The service is not ready", "服务尚未就绪",
        "{found}. GET /healthz/ready tells more.", "{found}。详见 GET /healthz/ready。",
    ),
    "console_not_built": ProblemType(
        503, "The console was not built", "控制台尚未构建",
        "Its files were not found beside the code. Run make console, then start the service again.",
        "代码旁没有控制台文件。请运行 make console 后重新启动服务。",
    ),
    "report_unavailable": ProblemType(
        503, "The report cannot be made now", "暂时无法生成报告",
        "{found}. Nothing was signed by this request. Inform the operator of the service.",
        "{found}。本次请求未签发。请联系运维人员。",
    ),
    "no_space": ProblemType(
        507, "The disk is full", "磁盘空间不足",
        "{found}. What came is kept: free the disk, then continue from the offset that HEAD returns.",
        "{found}。已收内容保留：清理磁盘后，请从 HEAD 所示偏移续传。",
    ),
    "overloaded": ProblemType(
        503, "The service is overloaded", "服务繁忙",
        "{found}. Send the same request again after a while.", "{found}。请稍后重发同一请求。",
    ),
}  # fmt: skip

RETRY_AFTER_SECONDS = {  # seconds
    "store_locked": 1,
    "store_full": 30,
    "store_failed": 5,
    "not_ready": 2,
    "overloaded": 1,
    "batch_running": 5,
    "upload_locked": 2,
    "report_unavailable": 30,
    "no_space": 30,
}


class ProblemError(Exception):
    """A problem: its kind, what was found and expected (in Chinese, too, where these are words), the wrong fields."""

    def __init__(
        self,
        kind: str,
        *,
        actual: str = "",
        expected: str = "",
        actual_zh: str | None = None,
        expected_zh: str | None = None,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ):
        self.kind, self.errors = kind, tuple(errors)
        self.detail_params = {"found": actual, "needed": expected}
        self.detail_params_zh = {"found": actual_zh or actual, "needed": expected_zh or expected}
        self.status_code = PROBLEM_TYPES[kind].status
        self.headers = dict(headers or {})
        if kind in RETRY_AFTER_SECONDS:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS[kind]))
        super().__init__(f"{kind}: {actual}")

    def render(self, request_id: str) -> bytes:
        """The body of the response, as JSON."""
        problem_type = PROBLEM_TYPES[self.kind]
        payload: dict[str, Any] = {
            "type": f"/problems/{self.kind}",
            "title": problem_type.title,
            "title_zh": problem_type.title_zh,
            "status": problem_type.status,
            "detail": problem_type.detail.format(**self.detail_params),
            "detail_zh": problem_type.detail_zh.format(**self.detail_params_zh),
            "instance": f"urn:request:{request_id}",
        }
        if self.errors:
            payload["errors"] = [field_error_to_json(field_error) for field_error in self.errors]
        return orjson.dumps(payload)


def field_error_to_json(field_error: FieldError) -> dict[str, Any]:
    """An entry of `errors`; it has a `row` in a batch."""
    row = {} if field_error.row is None else {"row": field_error.row}
    return {
        **row,
        "field": field_error.field,
        "found": field_error.actual,
        "needed": field_error.expected,
        "needed_zh": field_error.expected_zh,
    }
